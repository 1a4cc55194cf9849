//! Starts of instances.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use partitura_workflow::{Payload, Signal, Workflow};

use super::connection::{answer, unexpected};
use super::target::Target;
use crate::error::ClientError;
use crate::wire::{Command, ReplyBody, Start as StartCommand, StartPolicy, StartSignal};

/// A start about to happen: await it.
#[must_use = "nothing is started before this is awaited"]
pub struct Start<'a, W: Workflow> {
    target: &'a Target,
    input: W::Input,
    policy: StartPolicy,
    tags: Vec<String>,
    timeout: Option<Duration>,
    run_timeout: Option<Duration>,
    signal: Option<Signal<W>>,
}

/// What became of a start.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StartReceipt {
    /// The instance's run.
    pub run: String,
    /// Whether this start began the run; otherwise it was there already.
    pub is_new: bool,
}

impl<'a, W: Workflow> Start<'a, W> {
    pub(crate) fn new(target: &'a Target, input: W::Input) -> Self {
        let (policy, tags) = (StartPolicy::default(), Vec::new());
        Self { target, input, policy, tags, timeout: None, run_timeout: None, signal: None }
    }

    /// What to do when there is an instance of this id already.
    pub fn policy(mut self, policy: StartPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Adds a label to find the instance by.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// Ends the instance if it has not ended within this time of its start, without running any more of its code: nothing is
    /// compensated. It fails with [`TimedOut`](crate::WorkflowError::TimedOut). A chain of runs that [continue as
    /// new](partitura_workflow::Cx::continue_as_new) has one time together.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// As [`timeout`](Self::timeout), for each run of a chain.
    pub fn run_timeout(mut self, limit: Duration) -> Self {
        self.run_timeout = Some(limit);
        self
    }

    /// Sends a signal to the instance, whether this starts it or it is there already, in the same turn as the start. It counts
    /// once. An instance that has ended takes no signal: see [`StartPolicy::RestartEnded`].
    pub fn with_signal(mut self, signal: Signal<W>) -> Self {
        self.signal = Some(signal);
        self
    }

    /// Waits until the instance has taken the start, for up to 30 seconds, and says which run it has.
    ///
    /// # Errors
    /// Those of the start; [`NoAnswer`](ClientError::NoAnswer) when no worker runs the workflow: the start is durable, and takes
    /// effect when one does. [`Ended`](ClientError::Ended) when the signal that goes along finds an instance that has ended.
    ///
    /// # Cancel safety
    /// As for the start.
    pub async fn confirmed(self) -> Result<StartReceipt, ClientError> {
        self.send(true).await.map(|(run, is_new)| StartReceipt { run, is_new })
    }

    /// Publishes the start. The run is certain if that is `asked`, or if the policy rejects what is there.
    async fn send(self, asked: bool) -> Result<(String, bool), ClientError> {
        let Self { target, input, policy, tags, timeout, run_timeout, signal } = self;
        let mailbox = &target.connection.mailbox;
        let run = target.connection.fresh();
        let (reply_to, outcome) = mailbox.request();
        let verdict = (asked || policy == StartPolicy::Reject).then(|| mailbox.request());
        let (accepted, verdict) = verdict.unzip();
        let millis = |limit: Duration| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let signal = signal.map(Signal::into_parts).transpose()?.map(|(name, payload)| StartSignal { name, payload });
        let start = StartCommand {
            run: run.clone(),
            input: Payload::encode(&input)?,
            parent: None,
            tags,
            policy,
            timeout_ms: timeout.map(millis),
            run_timeout_ms: run_timeout.map(millis),
            signal,
            reply_to: Some(reply_to),
            accepted,
        };
        target.connection.send::<W>(&target.id, run.clone(), &Command::Start(Box::new(start))).await?;
        *target.pending() = Some(outcome);
        let Some(verdict) = verdict else { return Ok((run, true)) };
        match answer::<W>(verdict).await? {
            ReplyBody::Started { run, is_new } => Ok((run, is_new)),
            ReplyBody::Rejected { run } => {
                *target.pending() = None;
                Err(ClientError::AlreadyExists { workflow: W::NAME.to_owned(), id: target.id.to_string(), run })
            }
            other => Err(unexpected::<W>(&target.id, other)),
        }
    }
}

impl<'a, W: Workflow> IntoFuture for Start<'a, W> {
    type Output = Result<(), ClientError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async { self.send(false).await.map(drop) })
    }
}

impl<W: Workflow> fmt::Debug for Start<'_, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, policy, tags, timeout, run_timeout, .. } = self;
        let mut shown = f.debug_struct("Start");
        shown.field("instance", target).field("policy", policy).field("tags", tags);
        shown.field("timeout", timeout).field("run_timeout", run_timeout).finish_non_exhaustive()
    }
}

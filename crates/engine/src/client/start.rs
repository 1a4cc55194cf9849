//! Starts of instances.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use partitura_workflow::{Payload, Signal, Update, Workflow};
use serde::de::DeserializeOwned;

use super::connection::{answer, unexpected};
use super::target::Target;
use super::update::{self, until_answered};
use crate::error::{ClientError, UpdateError};
use crate::wire::{Command, ReplyBody, Start as StartCommand, StartPolicy, StartSignal, StartUpdate};

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

    /// Updates the instance, whether this starts it or it is there already, in the same turn as the start. Awaiting it gives the
    /// result of the update.
    ///
    /// ```no_run
    /// # use partitura_engine::{UpdateError, WorkflowHandle};
    /// # use partitura_workflow::{Never, Update, Workflow};
    /// # async fn example<W: Workflow<Input = ()>>(cart: WorkflowHandle<W>, add: Update<W, u32, Never>) -> Result<(), UpdateError<Never>> {
    /// let items = cart.start(()).with_update(add).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// An instance that has ended takes no update: see [`StartPolicy::RestartEnded`].
    pub fn with_update<T, E>(self, update: Update<W, T, E>) -> StartWithUpdate<'a, W, T, E> {
        StartWithUpdate::new(self, update)
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
        let (target, policy) = (self.target, self.policy);
        let mailbox = &target.connection.mailbox;
        let (reply_to, outcome) = mailbox.request();
        let verdict = (asked || policy == StartPolicy::Reject).then(|| mailbox.request());
        let (accepted, verdict) = verdict.unzip();
        let start = StartCommand { reply_to: Some(reply_to), accepted, ..self.command()? };
        let run = start.run.clone();
        target.connection.send::<W>(&target.id, run.clone(), &Command::Start(Box::new(start))).await?;
        *target.pending() = Some(outcome);
        let Some(verdict) = verdict else { return Ok((run, true)) };
        match answer::<W>(verdict).await? {
            ReplyBody::Started { run, is_new } => Ok((run, is_new)),
            ReplyBody::Rejected { run } => {
                *target.pending() = None;
                Err(rejected::<W>(target, run))
            }
            other => Err(unexpected::<W>(&target.id, other)),
        }
    }

    /// The command of a new run, without the addresses of answers.
    fn command(self) -> Result<StartCommand, ClientError> {
        let Self { target, input, policy, tags, timeout, run_timeout, signal } = self;
        let millis = |limit: Duration| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let signal = signal.map(Signal::into_parts).transpose()?.map(|(name, payload)| StartSignal { name, payload });
        Ok(StartCommand {
            run: target.connection.fresh(),
            input: Payload::encode(&input)?,
            parent: None,
            tags,
            policy,
            timeout_ms: timeout.map(millis),
            run_timeout_ms: run_timeout.map(millis),
            signal,
            update: None,
            reply_to: None,
            accepted: None,
        })
    }
}

/// There is an instance already, as this run.
fn rejected<W: Workflow>(target: &Target, run: String) -> ClientError {
    ClientError::AlreadyExists { workflow: W::NAME.to_owned(), id: target.id.to_string(), run }
}

/// A start with an update, about to be sent: await it for the result of the update.
#[must_use = "nothing is sent before this is awaited"]
pub struct StartWithUpdate<'a, W: Workflow, T, E> {
    start: Start<'a, W>,
    update: Update<W, T, E>,
    id: Option<String>,
}

impl<'a, W: Workflow, T, E> StartWithUpdate<'a, W, T, E> {
    pub(crate) fn new(start: Start<'a, W>, update: Update<W, T, E>) -> Self {
        Self { start, update, id: None }
    }

    /// Names the update, as [`UpdateRequest::id`] does.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }
}

impl<W: Workflow, T: DeserializeOwned, E: DeserializeOwned> StartWithUpdate<'_, W, T, E> {
    async fn send(self) -> Result<T, UpdateError<E>> {
        let Self { start, update, id } = self;
        update::check(id.as_deref())?;
        let (name, args) = update.into_parts().map_err(ClientError::from)?;
        let (target, start) = (start.target, start.command()?);
        let id = id.unwrap_or_else(|| start.run.clone());
        let command = |reply_to| {
            let sent = StartUpdate { name: name.clone(), args: args.clone(), id: id.clone(), reply_to };
            let mut start = start.clone();
            start.update = Some(sent);
            Command::Start(Box::new(start))
        };
        match until_answered::<W>(target, command).await? {
            ReplyBody::Rejected { run } => Err(rejected::<W>(target, run).into()),
            body => update::result::<W, T, E>(target, &id, body).await,
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

impl<'a, W, T, E> IntoFuture for StartWithUpdate<'a, W, T, E>
where
    W: Workflow,
    T: DeserializeOwned + Send + 'a,
    E: DeserializeOwned + Send + 'a,
{
    type Output = Result<T, UpdateError<E>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

impl<W: Workflow, T, E> fmt::Debug for StartWithUpdate<'_, W, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { start, update, id } = self;
        f.debug_struct("StartWithUpdate").field("start", start).field("update", update).field("id", id).finish()
    }
}

//! Starts of instances.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use partitura_broker::Timestamp;
use partitura_workflow::{Payload, Retry, Signal, TraceContext, Update, Workflow};
use serde::de::DeserializeOwned;
use tracing::Span;

use super::connection::{answer, unexpected};
use super::target::{Pending, Target};
use super::update::{self, until_answered};
use crate::error::{ClientError, UpdateError};
use crate::wire::{Command, Later, ReplyBody, Start as StartCommand, StartPolicy, StartSignal, StartUpdate};

/// A start about to happen: await it.
#[must_use = "nothing is started before this is awaited"]
pub struct Start<'a, W: Workflow> {
    target: &'a Target,
    input: W::Input,
    policy: StartPolicy,
    tags: Vec<String>,
    timeout: Option<Duration>,
    run_timeout: Option<Duration>,
    retry: Option<Retry>,
    signal: Option<Signal<W>>,
    begins: Begins,
    trace: Option<TraceContext>,
}

/// When an instance begins.
#[derive(Debug, Clone, Copy)]
enum Begins {
    Now,
    At(Timestamp),
    After(Duration),
}

/// The result of a start.
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
        let (policy, tags, begins) = (StartPolicy::default(), Vec::new(), Begins::Now);
        let (timeout, run_timeout, retry, signal, trace) = (None, None, None, None, None);
        Self { target, input, policy, tags, timeout, run_timeout, retry, signal, begins, trace }
    }

    /// Sets the policy for an instance of this id that exists already.
    pub fn policy(mut self, policy: StartPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Adds a label to find the instance by.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// Ends the instance if it has not ended within this time of its start, without running any more of its code:
    /// nothing is compensated. It fails with [`TimedOut`](crate::WorkflowError::TimedOut). A chain of runs that
    /// [continue as new](partitura_workflow::Cx::continue_as_new) has one time together.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// As [`timeout`](Self::timeout), for each run of a chain, and for each [attempt](Self::retry).
    pub fn run_timeout(mut self, limit: Duration) -> Self {
        self.run_timeout = Some(limit);
        self
    }

    /// Tries the workflow again when it fails: after the wait of the policy its code begins anew, in the next run of
    /// the same id and with the same input. Clients and a parent get the outcome of the last attempt. It stands for the
    /// policy of `#[workflow(retry = …)]`; [`Retry::none`] takes that away.
    ///
    /// An attempt follows an error that the code returns and a [time-out of its run](Self::run_timeout). It does not
    /// follow an error that is final by the `retry_if` of `#[workflow]`, or else by its type if that is
    /// [`Transient`](partitura_workflow::Transient); a failure with a compensation that failed; cancellation;
    /// termination; nor anything else that would begin after the [time-out of the whole](Self::timeout).
    ///
    /// ```no_run
    /// # use partitura_engine::{Client, ClientError};
    /// # use partitura_workflow::{Retry, Workflow, hours, minutes};
    /// # async fn example<Import: Workflow<Input = String>>(client: Client) -> Result<(), ClientError> {
    /// let import = client.workflow::<Import>("prices");
    /// let retry = Retry::exponential().initial(minutes(1)).max_attempts(5);
    /// import.start("prices.csv".to_owned()).retry(retry).run_timeout(hours(1)).timeout(hours(8)).await?;
    /// println!("attempt {}", import.describe().await?.attempt);
    /// # Ok(()) }
    /// ```
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = Some(retry);
        self
    }

    /// Starts it as part of this trace: its turns and tasks carry the context on. Without this it is that of the
    /// caller's span, if the connection has a [propagator](crate::Builder::propagator).
    pub fn trace(mut self, context: TraceContext) -> Self {
        self.trace = Some(context);
        self
    }

    /// Sends a signal to the instance, whether this starts it or it is there already, in the same turn as the start. It
    /// counts once. An instance that has ended takes no signal: see [`StartPolicy::RestartEnded`].
    pub fn with_signal(mut self, signal: Signal<W>) -> Self {
        self.signal = Some(signal);
        self
    }

    /// Updates the instance, whether this starts it or it is there already, in the same turn as the start. Awaiting it
    /// gives the result of the update.
    ///
    /// ```no_run
    /// # use partitura_engine::{UpdateError, WorkflowHandle};
    /// # use partitura_workflow::{Never, Update, Workflow};
    /// # async fn example<W: Workflow<Input = ()>>(cart: WorkflowHandle<W>, add: Update<W, u32, Never>) -> Result<(), UpdateError<Never>> {
    /// let items = cart.start(()).with_update(add).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// An instance that has ended takes no update: see [`StartPolicy::RestartEnded`]. A start that is
    /// [delayed](Self::at) takes none either.
    pub fn with_update<T, E>(self, update: Update<W, T, E>) -> StartWithUpdate<'a, W, T, E> {
        StartWithUpdate::new(self, update)
    }

    /// Starts the instance after this time, and not now. See [`at`](Self::at).
    pub fn after(mut self, delay: Duration) -> Self {
        self.begins = Begins::After(delay);
        self
    }

    /// Starts the instance at this time, and not now: never before it, and as soon as a worker takes it behind that.
    /// The start is durable when awaiting it returns; time-outs count from the moment.
    ///
    /// The broker keeps the start until then, and **there is no instance before**: `describe` is
    /// [`NotFound`](ClientError::NotFound); a signal or a cancellation has no effect and does not take the start back;
    /// another start of the id begins at once. The [policy](Self::policy) says, at that moment, what this start does to
    /// an instance that it finds: a refusal is silent. Where a start is to be seen and cancelled before, start now, and
    /// let the code begin with `cx.sleep_until(time).await?`.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use partitura_engine::{Client, ClientError};
    /// # use partitura_workflow::Workflow;
    /// # async fn example<Remind: Workflow<Input = String>>(client: Client) -> Result<(), ClientError> {
    /// let remind = client.workflow::<Remind>("remind-42");
    /// remind.start("pay the bill".to_owned()).after(Duration::from_secs(3 * 24 * 60 * 60)).await?;
    /// # Ok(()) }
    /// ```
    pub fn at(mut self, time: jiff::Timestamp) -> Self {
        self.begins = Begins::At(Timestamp::from_millis(u64::try_from(time.as_millisecond()).unwrap_or(0)));
        self
    }

    /// Waits until the instance has taken the start, for up to 30 seconds, and says which run it has.
    ///
    /// # Errors
    /// Those of the start; [`Refused`](ClientError::Refused) for a start that is [delayed](Self::at);
    /// [`NoAnswer`](ClientError::NoAnswer) when no worker runs the workflow: the start is durable, and takes effect
    /// when one does. [`Ended`](ClientError::Ended) when the signal that goes along finds an instance that has ended.
    ///
    /// # Cancel safety
    /// As for the start.
    pub async fn confirmed(self) -> Result<StartReceipt, ClientError> {
        self.send(true).await.map(|(run, is_new)| StartReceipt { run, is_new })
    }

    /// Publishes the start. The run is certain if that is `asked`, or if the policy rejects what is there.
    async fn send(self, asked: bool) -> Result<(String, bool), ClientError> {
        let (target, policy, begins) = (self.target, self.policy, self.begins());
        let (mailbox, now) = (&target.connection.mailbox, target.connection.clock.now());
        if asked {
            self.refuse_to_wait()?;
        }
        let (reply_to, outcome) = mailbox.request();
        let verdict = asked || (policy == StartPolicy::Reject && begins.is_none());
        let verdict = verdict.then(|| mailbox.request());
        let horizon = target.connection.directory.horizon(now);
        let later = begins.filter(|time| *time > horizon).map(|time| Later { due: time.as_millis(), waits: 1 });
        let (accepted, verdict) = verdict.unzip();
        let start = StartCommand { reply_to: Some(reply_to), accepted, later, ..self.command()? };
        let run = start.run.clone();
        let not_before = begins.map(|time| time.min(horizon));
        target.connection.send_start((W::NAME, &target.id), start, not_before).await?;
        *target.pending() = Pending { outcome: Some(outcome), begins };
        let Some(verdict) = verdict else { return Ok((run, true)) };
        match answer::<W>(verdict).await? {
            ReplyBody::Started { run, is_new } => Ok((run, is_new)),
            ReplyBody::Rejected { run } => {
                *target.pending() = Pending::default();
                Err(rejected::<W>(target, run))
            }
            other => Err(unexpected::<W>(&target.id, other)),
        }
    }

    /// When the instance begins, if not now.
    fn begins(&self) -> Option<Timestamp> {
        let clock = &self.target.connection.clock;
        let begins = match self.begins {
            Begins::Now | Begins::After(Duration::ZERO) => return None,
            Begins::At(time) => time,
            Begins::After(delay) => clock.now_rounded_up() + delay,
        };
        (begins > clock.now()).then_some(begins)
    }

    /// A delayed start has no answer yet.
    fn refuse_to_wait(&self) -> Result<(), ClientError> {
        let reason = "a delayed start is neither confirmed nor updated: no worker takes it before its time";
        self.begins().map_or(Ok(()), |_| Err(ClientError::Refused(reason.to_owned())))
    }

    /// The command of a new run, without the addresses of answers.
    fn command(self) -> Result<StartCommand, ClientError> {
        let Self { target, input, policy, tags, timeout, run_timeout, retry, signal, begins: _, trace } = self;
        let millis = |limit: Duration| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let signal = signal.map(Signal::into_parts).transpose()?.map(|(name, payload)| StartSignal { name, payload });
        Ok(StartCommand {
            tags,
            policy,
            timeout_ms: timeout.map(millis),
            run_timeout_ms: run_timeout.map(millis),
            retry,
            signal,
            trace: trace.or_else(|| target.connection.propagation.context_of(&Span::current())),
            ..StartCommand::new(target.connection.fresh(), Payload::encode(&input)?)
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

    /// Names the update, as [`UpdateRequest::id`](crate::UpdateRequest::id) does.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }
}

impl<W: Workflow, T: DeserializeOwned, E: DeserializeOwned> StartWithUpdate<'_, W, T, E> {
    async fn send(self) -> Result<T, UpdateError<E>> {
        let Self { start, update, id } = self;
        update::check(id.as_deref())?;
        start.refuse_to_wait()?;
        let (name, args) = update.into_parts().map_err(ClientError::from)?;
        let (target, start) = (start.target, start.command()?);
        let id = id.unwrap_or_else(|| start.run.clone());
        let command = |reply_to| {
            let sent = StartUpdate { name: name.clone(), args: args.clone(), id: id.clone(), reply_to };
            let mut start = start.clone();
            start.update = Some(sent);
            Command::Start(Box::new(start))
        };
        match until_answered(&target.connection, (W::NAME, &target.id), command).await? {
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
        let Self { target, policy, tags, timeout, run_timeout, retry, .. } = self;
        let mut shown = f.debug_struct("Start");
        shown.field("instance", target).field("policy", policy).field("tags", tags);
        shown.field("timeout", timeout).field("run_timeout", run_timeout).field("retry", retry);
        shown.finish_non_exhaustive()
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

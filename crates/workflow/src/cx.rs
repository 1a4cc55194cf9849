use std::fmt;
use std::future::Future;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::core::Core;
use crate::duration::as_millis;
use crate::until::lock_state;
use crate::{
    Attribute, Caller, Channel, Child, EventKind, HandlersEnded, ParentRef, Payload, PayloadError, Random, Saga,
    SendError, ServiceStub, Shielded, Signal, Sleep, StepRun, StopReason, Until, Workflow,
};

/// The context of a running workflow `W`: everything its code may ask of the world.
///
/// Cheap to clone, and to be used in the workflow's own code only (not within [steps](Cx::step)).
///
/// All futures are lazy: an id is claimed when one is built, the command goes out at its first poll or `start()`.
///
/// # Dropping a future
/// Dropping a future cancels what it began, as everywhere in Rust: the losers of a `select!`, the elements of a dropped
/// `join_all`. The task is told, the child is cancelled, the timer is taken back.
///
/// ```
/// # use partitura_workflow::{Cx, Never, Task, TaskError, hours};
/// # use futures::future::{Either, select};
/// # fn quote<W>(cx: &Cx<W>, _: &str) -> Task<u32, Never> { unimplemented!() }
/// # async fn example<W>(cx: Cx<W>) -> Result<u32, TaskError<Never>> {
/// let quote = quote(&cx, "slow supplier");
/// match select(quote, cx.sleep(hours(1))).await {
///     Either::Left((price, _)) => price,
///     // `quote` is dropped here: the task is cancelled, and makes no further attempt.
///     Either::Right(_) => Ok(100),
/// }
/// # }
/// ```
///
/// A handle, made by `start()`, only looks on: dropping it cancels nothing, and `select!` takes it by `&mut` to try
/// again later. When the workflow ends, all that is open is cancelled.
/// [`TaskHandle::detach`](crate::TaskHandle::detach), [`ChildHandle::detach`](crate::ChildHandle::detach) and
/// [`Child::detach`] are for what should outlive it.
///
/// The cancellations of one turn are recorded in the order in which the futures were built, at the end of the turn.
pub struct Cx<W> {
    core: Arc<Core>,
    state: Arc<Mutex<W>>,
}

impl<W> Cx<W> {
    pub(crate) fn new(core: Arc<Core>, state: Arc<Mutex<W>>) -> Self {
        Self { core, state }
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// The methods of a service, to be called: `cx.service::<PaymentsStub>().charge(…).await`.
    pub fn service<S: ServiceStub>(&self) -> S {
        S::new(Caller::new(Arc::clone(&self.core)))
    }

    /// Waits. Durable: the process may be down meanwhile. Resolution is 1 ms, never early. There is no longest wait: a
    /// century is one, and [`Duration::MAX`] is for ever.
    ///
    /// "Early" is by the clock that all workers go by: that of the store, as each worker estimates it when it starts
    /// and once a minute, to half a round trip. On the embedded broker, and with a store that tells no time, it is the
    /// machine's own: if that is put forward meanwhile, the wait is shorter by as much.
    ///
    /// # Errors
    /// [`Cancelled`](crate::Cancelled) when the workflow is cancelled meanwhile, or [`Sleep::cancel`] is called.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        Sleep::lasting(&self.core, as_millis(duration))
    }

    /// Waits until a point in time. One that has passed already is a timer that is due at once.
    ///
    /// # Errors
    /// As for [`sleep`](Cx::sleep).
    pub fn sleep_until(&self, time: Timestamp) -> Sleep {
        Sleep::until(&self.core, u64::try_from(time.as_millisecond()).unwrap_or(0))
    }

    /// Waits until a condition on the workflow's state holds; it is looked at after every signal and every
    /// [`state`](Cx::state).
    ///
    /// # Errors
    /// [`Cancelled`](crate::Cancelled) when the workflow is cancelled meanwhile.
    pub fn until<F>(&self, condition: F) -> Until<W>
    where
        F: Fn(&W) -> bool + Send + 'static,
    {
        Until::new(Arc::clone(&self.core), Arc::clone(&self.state), Box::new(condition))
    }

    /// Waits until no handler of a signal or update is open, for `run`: what is open when it returns, or continues as
    /// new, is cancelled. A handler that awaits this waits for itself.
    ///
    /// # Errors
    /// [`Cancelled`](crate::Cancelled) when the workflow is cancelled meanwhile.
    pub fn handlers_ended(&self) -> HandlersEnded {
        HandlersEnded::new(Arc::clone(&self.core))
    }

    /// Reads or changes the workflow's state.
    ///
    /// # Panics
    /// When called from within itself or within a condition.
    pub fn state<R>(&self, access: impl FnOnce(&mut W) -> R) -> R {
        drop(self.core.enter());
        let result = access(&mut *lock_state(&self.state));
        self.core.state_changed();
        result
    }

    /// Ends this run, and goes on with the next one under the same id, with `input` and an empty history: for a
    /// workflow that lives for years. It never resolves, and takes any type: `return cx.continue_as_new(next).await`.
    ///
    /// The next run begins in the same commit. Signals that no code has received go along, and so does a requested
    /// cancellation. A client or a parent that awaits the result gets that of the last run. All that is open is
    /// cancelled, as at the end of the workflow; compensations of sagas are not run.
    ///
    /// ```
    /// # use partitura_workflow::{Cancelled, Cx, days};
    /// # async fn example<W: partitura_workflow::Workflow<Input = u64>>(cx: Cx<W>, month: u64) -> Result<(), Cancelled> {
    /// cx.sleep(days(30)).await?;
    /// // … the work of this month …
    /// return cx.continue_as_new(month + 1).await;
    /// # }
    /// ```
    pub async fn continue_as_new<T>(&self, input: W::Input) -> T
    where
        W: Workflow,
    {
        self.continue_with(Payload::encode(&input), None).await
    }

    /// As [`continue_as_new`](Cx::continue_as_new), in another version of the workflow: the way for an instance that
    /// lives for years to the code of today. Without it an instance keeps the version with which it was started.
    ///
    /// ```
    /// # use partitura_workflow::{Cancelled, Cx, days};
    /// # async fn example<MeterV1: partitura_workflow::Workflow, MeterV2: partitura_workflow::Workflow<Input = (u64, String)>>(
    /// #     cx: Cx<MeterV1>, total: u64) -> Result<(), Cancelled> {
    /// cx.sleep(days(30)).await?;
    /// return cx.continue_in_version::<MeterV2, _>((total, "kWh".to_owned())).await;
    /// # }
    /// ```
    ///
    /// The run is stopped if `V` has another name, and the next run is if no worker runs that version.
    pub async fn continue_in_version<V, T>(&self, input: V::Input) -> T
    where
        W: Workflow,
        V: Workflow,
    {
        if V::NAME != W::NAME {
            let problem = format!("{} cannot continue as {}, which is another workflow", W::NAME, V::NAME);
            self.core.enter().fault.get_or_insert(StopReason::BadInput { problem });
        }
        self.continue_with(Payload::encode(&input), Some(V::VERSION)).await
    }

    async fn continue_with<T>(&self, input: Result<Payload, PayloadError>, version: Option<u32>) -> T {
        match input {
            Ok(input) => {
                let mut state = self.core.enter();
                state.progress += 1;
                state.next_run.get_or_insert((input, version));
            }
            Err(error) => {
                let problem = format!("the input of the next run: {error}");
                self.core.enter().fault.get_or_insert(StopReason::BadInput { problem });
            }
        }
        std::future::pending().await
    }

    /// How many events the history of this run has so far: the inputs that moved the code, and what the code asked for.
    /// Each replay has to read them all, so that a long-lived workflow [continues as new](Cx::continue_as_new) after
    /// some thousands.
    pub fn history_len(&self) -> usize {
        self.core.enter().history_len
    }

    /// The signals called `name` that have no handler, in the order in which they came. Early ones are kept.
    pub fn channel<T: DeserializeOwned>(&self, name: impl Into<String>) -> Channel<T> {
        Channel::new(Arc::clone(&self.core), name.into())
    }

    /// Another workflow, to be run under this one: `cx.child::<Delivery>(order.id).run(address).await`.
    pub fn child<C: Workflow>(&self, id: impl fmt::Display) -> Child<C> {
        Child::new(Arc::clone(&self.core), id.to_string())
    }

    /// Sends a signal to another workflow. It goes out for sure, and nobody waits for it.
    ///
    /// # Errors
    /// [`SendError`] at once, when the id cannot be that of an instance, or the signal's arguments cannot be encoded or
    /// are too large for a message of the broker.
    pub fn signal<V: Workflow>(&self, id: impl fmt::Display, signal: Signal<V>) -> Result<(), SendError> {
        let (name, payload) = signal.into_parts()?;
        let id = id.to_string();
        self.core.check_id(&id)?;
        let what = format!("signal {name} to {}/{id}", V::NAME);
        let send = |seq| EventKind::SignalSent { seq, workflow: V::NAME.to_owned(), id, name, payload };
        Ok(self.core.send(send).map_err(|too_large| PayloadError::too_large(what, too_large))?)
    }

    /// Runs a piece of ordinary code once and records its result: a look at a clock, a file, a socket.
    ///
    /// The code returns a `Result`; its error and its value are recorded alike, and an error is final. It runs on the
    /// engine's runtime, again after a crash that came before the record, and cannot use the context.
    ///
    /// # Errors
    /// [`TaskError::Failed`](crate::TaskError::Failed) with the code's own error; `Panicked`, `Cancelled`, `Unknown`.
    ///
    /// ```
    /// # use partitura_workflow::{Cx, TaskError};
    /// # async fn example<W>(cx: Cx<W>) -> Result<(), TaskError<String>> {
    /// let config = cx.step("read the config", async { Ok::<_, String>("…".to_owned()) }).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// The error type has to be known: `Ok(1)` alone leaves it open. Code that cannot fail says so with
    /// [`Never`](crate::Never): `Ok::<_, Never>(1)`.
    pub fn step<T, E, F>(&self, name: impl Into<String>, code: F) -> StepRun<T, E>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Serialize + DeserializeOwned,
        E: Serialize + DeserializeOwned + fmt::Debug,
    {
        StepRun::new(&self.core, name.into(), code)
    }

    /// Runs a future to its end whatever is cancelled meanwhile: what it begins and awaits goes on when the workflow's
    /// cancellation is requested. Compensations are shielded by themselves, see [`saga`](Cx::saga).
    ///
    /// The cancellation is not lost: what is awaited beside the shield gets it, else what the code awaits next without
    /// one.
    ///
    /// ```
    /// # use partitura_workflow::{Cx, Never, Task, TaskError};
    /// # fn charge<W>(cx: &Cx<W>) -> Task<String, Never> { unimplemented!() }
    /// # fn book<W>(cx: &Cx<W>, receipt: String) -> Task<(), Never> { unimplemented!() }
    /// # async fn example<W>(cx: Cx<W>) -> Result<(), TaskError<Never>> {
    /// // Either both or, where the charge itself fails, none of them.
    /// cx.shielded(async {
    ///     let receipt = charge(&cx).await?;
    ///     book(&cx, receipt).await
    /// })
    /// .await
    /// # }
    /// ```
    ///
    /// # Cancel safety
    /// Dropping it is dropping the future within: a shield does not help the loser of a `select!`.
    pub fn shielded<F: Future>(&self, future: F) -> Shielded<F> {
        Shielded::new(Arc::clone(&self.core), future)
    }

    /// A list of compensations to be run, newest first, if the workflow fails.
    pub fn saga(&self) -> Saga {
        Saga::new(Arc::clone(&self.core))
    }

    /// Which version of a change this instance lives with.
    ///
    /// Guards a change of the code under running instances. Versions count from 1, the code as it was before the
    /// change: instances that passed here then keep it, new ones get `supported.end()`, and each keeps its answer for
    /// ever.
    ///
    /// Raise `supported.start()` once no instance needs the old code; one that still does is stopped with
    /// [`StopReason::UnsupportedVersion`](crate::StopReason::UnsupportedVersion), not run wrongly.
    ///
    /// ```
    /// # use partitura_workflow::{Cx, Cancelled, days};
    /// # async fn example<W>(cx: Cx<W>) -> Result<(), Cancelled> {
    /// let patience = if cx.version("wait longer", 1..=2) == 1 { days(3) } else { days(30) };
    /// cx.sleep(patience).await?;
    /// # Ok(()) }
    /// ```
    pub fn version(&self, change: &str, supported: RangeInclusive<u32>) -> u32 {
        self.core.enter().version(change, supported)
    }

    /// Says something of the instance by which it can be found: a text, a whole number, a `bool` or a moment. It is
    /// part of the history and of the summary; the same again is not recorded again. It survives
    /// [`continue_as_new`](Cx::continue_as_new).
    ///
    /// Each attribute costs a row of the store for as long as the instance is kept. Of texts the first 256 bytes are
    /// indexed.
    ///
    /// ```
    /// # use partitura_workflow::{Cx, Cancelled, days};
    /// # async fn example<W>(cx: Cx<W>) -> Result<(), Cancelled> {
    /// cx.set_attribute("customer", "acme");
    /// cx.set_attribute("cents", 12_50);
    /// cx.sleep(days(3)).await?;
    /// cx.set_attribute("reminded", true);
    /// # Ok(()) }
    /// ```
    pub fn set_attribute(&self, name: impl Into<String>, value: impl Into<Attribute>) {
        self.core.enter().set_attribute(name.into(), Some(value.into()));
    }

    /// Takes an [attribute](Cx::set_attribute) away.
    pub fn remove_attribute(&self, name: impl Into<String>) {
        self.core.enter().set_attribute(name.into(), None);
    }

    /// The time of the input that the code is reacting to. It never goes backwards.
    pub fn now(&self) -> Timestamp {
        let now = i64::try_from(self.core.enter().now).unwrap_or(i64::MAX);
        Timestamp::from_millisecond(now).unwrap_or(Timestamp::MAX)
    }

    /// A random number that is the same in every replay: an integer of any value, a `bool`, or an `f64` from 0 up to 1.
    pub fn random<T: Random>(&self) -> T {
        self.core.enter().random.draw()
    }

    /// A random UUID (version 4) that is the same in every replay.
    pub fn uuid(&self) -> Uuid {
        self.core.enter().random.uuid()
    }

    /// The instance's id.
    pub fn id(&self) -> &str {
        &self.core.started.id
    }

    /// The UUID of this run of the id.
    pub fn run_id(&self) -> &str {
        &self.core.started.run
    }

    /// The workflow that started this one as its child.
    pub fn parent(&self) -> Option<&ParentRef> {
        self.core.started.parent.as_ref()
    }

    /// Which attempt this run is, from 1: a run that fails is tried again where the start or the workflow says so.
    pub fn attempt(&self) -> u32 {
        self.core.started.attempt()
    }

    /// The version of the workflow that this run lives with.
    pub fn workflow_version(&self) -> u32 {
        self.core.started.version
    }

    /// The labels given at the start.
    pub fn tags(&self) -> &[String] {
        &self.core.started.tags
    }

    /// Whether cancellation has been requested, ever. See [`Cancelled`](crate::Cancelled).
    pub fn is_cancelled(&self) -> bool {
        self.core.enter().cancel_requested.is_some()
    }

    /// Whether the code is repeating what it did before. For logs only: code must not behave differently.
    pub fn is_replaying(&self) -> bool {
        self.core.enter().replaying
    }
}

impl<W> Clone for Cx<W> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.core), Arc::clone(&self.state))
    }
}

impl<W> fmt::Debug for Cx<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cx").field(&self.core).finish()
    }
}

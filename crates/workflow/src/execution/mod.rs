mod asking;
mod continuation;
mod handlers;
mod inputs;
mod open_handler;
mod replay;
mod run;
mod seen_messages;
mod stop;
mod values;
mod waker;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use futures::future::BoxFuture;

use open_handler::OpenHandler;
use replay::Kept;
use seen_messages::{SeenMessages, SeenUpdates};
use stop::handler_of;
pub use stop::{Difference, Stop, StopReason};
pub(crate) use waker::RootWaker;

use crate::core::Core;
use crate::definition::{Instance, RootFuture};
use crate::failure::panic_message;
use crate::{Continued, Definition, Event, EventKind, Failure, Payload, RULES, Started};

/// One live workflow instance. It is owned and driven from outside and does no I/O: inputs go in one at a time, what
/// the code asks for comes out as a [`Turn`].
///
/// Dropping it loses nothing that is in the history; [`replay`](Execution::replay) brings it back.
pub struct Execution {
    core: Arc<Core>,
    waker: Arc<RootWaker>,
    /// Gone once the code has ended.
    root: Option<RootFuture>,
    instance: Box<dyn Instance>,
    /// In the order in which they began.
    handlers: Vec<OpenHandler>,
    outcome: Option<EventKind>,
    seen_messages: SeenMessages,
    seen_updates: SeenUpdates,
    continuation: Option<Box<Continued>>,
    stopped: Option<Stop>,
    /// Where a replay collects how the values of the code differ from those of the history, unless that is a stop.
    differences: Option<Vec<Difference>>,
}

/// The requests of one turn of an instance.
#[derive(Debug, Default)]
pub struct Turn {
    /// Commands in the order in which they were issued, then the end if the code ended. To be appended to the history
    /// after the input, with whose time they are stamped.
    pub events: Vec<Event>,
    /// Steps to be run now; their results come back as `StepCompleted` or `StepFailed`.
    pub steps: Vec<Step>,
    /// Timers that run on though nobody waits for them any more: their handles are gone. Should they fire, nothing
    /// happens. Under the [`RULES`](crate::RULES) 0, also those whose futures are gone. Not part of the history; of a
    /// replay, all that there were.
    pub abandoned: Vec<u32>,
    /// Steps whose futures are gone, or that were cancelled: their code is to be dropped if it runs. Not part of the
    /// history; of a replay, all that there were.
    pub dropped_steps: Vec<u32>,
    /// The input had no effect and need not be recorded: a result that nobody awaits (any more), a signal seen before,
    /// anything after the end.
    pub ignored: bool,
}

/// An inline step to be run.
pub struct Step {
    /// The step's number.
    pub seq: u32,
    /// Its name.
    pub name: String,
    /// Its code. It catches its own panics and may be run on any runtime; drop it to abandon the step.
    pub future: BoxFuture<'static, Result<Payload, Failure>>,
}

impl Execution {
    /// Begins a new instance with its `WorkflowStarted` event and runs its code for the first time.
    ///
    /// An input that the code cannot decode does not stop the instance, it fails it: the turn ends with
    /// `WorkflowFailed`.
    ///
    /// # Errors
    /// [`Stop`]; [`StopReason::BadInput`] when the event is another one or names another workflow.
    pub fn start(definition: &Definition, started: Event) -> Result<(Self, Turn), Stop> {
        let mut execution = Self::build(definition, started)?;
        execution.take_over()?;
        execution.run_code(true)?;
        let turn = execution.take_turn();
        Ok((execution, turn))
    }

    /// Rebuilds an instance from its complete history, whose first event is `WorkflowStarted`.
    ///
    /// The returned turn holds what the code asks for beyond the end of the history, and the steps that the history
    /// shows as scheduled but not resolved; they are to be run again. For a history whose last turn was recorded
    /// completely, by the same code, it has no events. An instance that was stopped goes on: the first event is then
    /// `WorkflowResumed`, which names the signals that were kept meanwhile and that the code cannot read.
    ///
    /// # Errors
    /// [`Stop`]; [`StopReason::NonDeterministic`] when the code does not do what the history says it did, or not with
    /// the same values.
    pub fn replay(definition: &Definition, history: impl IntoIterator<Item = Event>) -> Result<(Self, Turn), Stop> {
        Self::replay_by(definition, history, None).map(|(execution, turn, _)| (execution, turn))
    }

    /// As [`replay`](Execution::replay), but does not stop where only values differ: it says where. The history counts.
    ///
    /// # Errors
    /// [`Stop`]; [`StopReason::NonDeterministic`] when the code does something else than the history says.
    pub fn replay_and_compare(
        definition: &Definition,
        history: impl IntoIterator<Item = Event>,
    ) -> Result<(Self, Turn, Vec<Difference>), Stop> {
        Self::replay_by(definition, history, Some(Vec::new()))
    }

    /// Collects differences where there is a place for them; else the first is a stop.
    fn replay_by(
        definition: &Definition,
        history: impl IntoIterator<Item = Event>,
        differences: Option<Vec<Difference>>,
    ) -> Result<(Self, Turn, Vec<Difference>), Stop> {
        let history: Vec<Event> = history.into_iter().collect();
        let mut events = history.into_iter();
        let Some(started) = events.next() else {
            return Err(Stop {
                workflow: definition.name().to_owned(),
                id: "?".to_owned(),
                reason: StopReason::BadInput { problem: "its history is empty".to_owned() },
            });
        };
        let mut execution = Self::build(definition, started)?;
        execution.differences = differences;
        execution.core.lock().begin_replay(events.as_slice());
        execution.take_over()?;
        let mut kept = Kept::new(events.as_slice());
        execution.run_code(true)?;
        for (index, event) in (1..).zip(events) {
            if kept.is_unread(index) {
                execution.hand_on(&event.kind);
            }
            match kept.id_of_signal(index, &event.kind) {
                None => execution.replay_event(index, event)?,
                Some(id) if kept.is_refused(&id) => execution.seen_messages.insert(id, ()),
                Some(id) => match execution.replay_event(index, event) {
                    Err(Stop { reason: StopReason::BadInput { problem }, .. }) => {
                        execution.seen_messages.insert(id.clone(), ());
                        kept.refuse(id, problem);
                    }
                    replayed => replayed?,
                },
            }
            if !kept.is_unread(index) {
                execution.core.lock().unread_result = None;
            }
        }
        execution.core.lock().replaying = false;
        let mut turn = execution.take_turn();
        turn.events.splice(0..0, kept.resumed());
        let differences = execution.differences.take().unwrap_or_default();
        Ok((execution, turn, differences))
    }

    /// Applies one more input and runs the code as far as it goes.
    ///
    /// An imposed end ([`EventKind::is_imposed_end`]) is taken as well: it closes the instance without running its
    /// code.
    ///
    /// # Errors
    /// [`Stop`]. After [`StopReason::BadInput`] the instance is as before; after any other reason every call returns
    /// the same.
    pub fn apply(&mut self, input: Event) -> Result<Turn, Stop> {
        if let Some(stop) = &self.stopped {
            return Err(stop.clone());
        }
        self.core.lock().unread_result = None;
        let applied = self.advance(input)?;
        let mut turn = self.take_turn();
        turn.ignored = !applied;
        Ok(turn)
    }

    /// Whether the instance has ended.
    pub fn is_closed(&self) -> bool {
        self.outcome.is_some()
    }

    /// Takes the values for the next run, if the code continues as new. Gone once it is taken, and after a replay.
    pub fn take_continuation(&mut self) -> Option<Box<Continued>> {
        self.continuation.take()
    }

    /// The end of the run, once there is one.
    pub fn outcome(&self) -> Option<&EventKind> {
        self.outcome.as_ref()
    }

    /// Why the code could not read its input, if that is so: the instance has failed then, but another build of the
    /// code may have been meant.
    pub fn unread_input(&self) -> Option<String> {
        self.core.lock().unread_input.clone()
    }

    /// Why the code could not read a result that it has got with the latest input, or with what was kept while it was
    /// stopped: a result of a task, step or child, or an error of theirs. It has got an error in place of it, but
    /// another build of the code may have been meant.
    pub fn unread_result(&self) -> Option<String> {
        self.core.lock().unread_result.clone()
    }

    /// How the instance began.
    pub fn started(&self) -> &Started {
        &self.core.started
    }

    /// Whether the task, timer, child or step `seq` was asked for and has neither a result nor been cancelled. Results
    /// for any other are ignored by [`apply`](Execution::apply).
    pub fn is_open(&self, seq: u32) -> bool {
        !self.is_closed() && self.core.lock().is_open(seq)
    }

    /// The names of the channels on which the code waits for a signal now, in alphabetical order.
    pub fn awaited_channels(&self) -> Vec<String> {
        self.core.lock().awaited_channels()
    }

    /// How many conditions on the instance's own state the code waits for now.
    pub fn awaited_conditions(&self) -> usize {
        self.core.lock().awaited_conditions()
    }

    /// Whether cancellation was requested.
    pub fn is_cancel_requested(&self) -> bool {
        self.core.lock().cancel_requested.is_some()
    }

    fn build(definition: &Definition, started: Event) -> Result<Self, Stop> {
        let at = started.at;
        let started = match started.kind {
            EventKind::WorkflowStarted(started) if started.workflow == definition.name() => started,
            kind => {
                return Err(Stop {
                    workflow: definition.name().to_owned(),
                    id: "?".to_owned(),
                    reason: StopReason::BadInput {
                        problem: format!("its first event must be its WorkflowStarted, not {kind}"),
                    },
                });
            }
        };
        if started.rules > RULES {
            let problem = format!("it lives by rules {}; this build knows those up to {RULES}", started.rules);
            let (workflow, id) = (started.workflow.clone(), started.id.clone());
            return Err(Stop { workflow, id, reason: StopReason::BadInput { problem } });
        }
        let waker = Arc::new(RootWaker::default());
        let core = Arc::new(Core::new(started, at, Arc::clone(&waker), definition.fit_check()));
        let built = catch_unwind(AssertUnwindSafe(|| definition.build(&core)));
        let Some((root, instance)) = built.map_err(|panic| stop(&core, panicked(&*panic)))? else {
            let version = core.started.version;
            return Err(stop(&core, StopReason::UnknownVersion { version, known: definition.versions() }));
        };
        Ok(Self {
            core,
            waker,
            root: Some(root),
            instance,
            handlers: Vec::new(),
            outcome: None,
            seen_messages: SeenMessages::default(),
            seen_updates: SeenUpdates::default(),
            continuation: None,
            stopped: None,
            differences: None,
        })
    }

    fn replay_event(&mut self, index: usize, event: Event) -> Result<(), Stop> {
        if event.kind.is_input() || event.kind.is_imposed_end() {
            return self.advance(event).map(drop);
        }
        let issued = self.core.lock().commands.pop_front();
        let difference = replay::check(index, &event, issued).map_err(|reason| self.stop(reason))?;
        match (difference, &mut self.differences) {
            (None, _) => {}
            (Some(difference), Some(differences)) => differences.push(difference),
            (Some(difference), None) => return Err(self.stop(difference.into())),
        }
        if event.kind.is_end() {
            self.outcome = Some(event.kind);
            self.continuation = None;
        }
        Ok(())
    }

    /// Applies an input and runs the code. Whether it had an effect.
    fn advance(&mut self, input: Event) -> Result<bool, Stop> {
        if self.is_closed() {
            return Ok(false);
        }
        if input.kind.is_imposed_end() {
            self.close(input.kind);
            return Ok(true);
        }
        let before = self.core.lock().advance_to(input.at, self.core.started.rules);
        let waker = Arc::clone(&self.waker);
        let _turn = waker.begin_turn();
        let handler = handler_of(&input.kind);
        match catch_unwind(AssertUnwindSafe(|| self.take_in(input.kind))) {
            Ok(Ok(false)) => {
                self.core.lock().now = before;
                return Ok(false);
            }
            Ok(Ok(true)) => {}
            Ok(Err(problem)) => {
                self.core.lock().now = before;
                return Err(stop(&self.core, StopReason::BadInput { problem }));
            }
            Err(panic) => {
                let reason = match handler {
                    Some(handler) => StopReason::HandlerPanicked { handler, message: panic_message(&*panic) },
                    None => panicked(&*panic),
                };
                return Err(self.stop(reason));
            }
        }
        self.core.lock().history_len += 1;
        self.run_code(false)?;
        Ok(true)
    }

    fn take_turn(&mut self) -> Turn {
        let mut state = self.core.lock();
        let at = state.now;
        let events = state.commands.drain(..).map(|command| Event::new(at, command)).collect();
        let steps = std::mem::take(&mut state.steps);
        let dropped_steps = std::mem::take(&mut state.dropped_steps);
        let mut abandoned = std::mem::take(&mut state.abandoned);
        abandoned.retain(|seq| state.is_open(*seq));
        drop(state);
        Turn {
            events,
            steps: steps.into_iter().map(|(seq, (name, future))| Step { seq, name, future }).collect(),
            abandoned,
            dropped_steps,
            ignored: false,
        }
    }

    fn stop(&mut self, reason: StopReason) -> Stop {
        self.abandon_code();
        let stop = stop(&self.core, reason);
        self.stopped = Some(stop.clone());
        stop
    }
}

impl Drop for Execution {
    fn drop(&mut self) {
        self.abandon_code();
    }
}

impl fmt::Debug for Execution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Execution")
            .field("instance", &self.core)
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step").field("seq", &self.seq).field("name", &self.name).finish_non_exhaustive()
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> StopReason {
    StopReason::Panicked { message: panic_message(panic) }
}

fn stop(core: &Core, reason: StopReason) -> Stop {
    Stop { workflow: core.started.workflow.clone(), id: core.started.id.clone(), reason }
}

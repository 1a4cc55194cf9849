//! The shared heart of one live instance: what its code asked for and what it waits for.
//!
//! Every [`Cx`](crate::Cx) and every future of ours holds an `Arc<Core>`. The lock is never contended (one thread polls
//! an instance) and never held while code of the author runs or a value of theirs is dropped.

mod attributes;
mod channels;
mod conditions;
mod model;
mod sends;
mod slots;
mod versions;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use futures::future::BoxFuture;

pub use model::FitCheck;
pub(crate) use model::{Filter, Resolution, SlotKind};
pub(crate) use slots::Leaf;

use crate::execution::RootWaker;
use crate::random::Generator;
use crate::{Attribute, EventKind, Failure, InvalidId, Payload, Started, StopReason, check_id};

/// The future of an inline step, which the engine runs.
pub(crate) type StepFuture = BoxFuture<'static, Result<Payload, Failure>>;

/// Undoes something; says how it failed.
pub(crate) type CompensationFuture = BoxFuture<'static, Result<(), Failure>>;

pub(crate) struct Core {
    pub(crate) started: Box<Started>,
    waker: Arc<RootWaker>,
    /// `None`: everything fits.
    fit_check: Option<FitCheck>,
    state: Mutex<State>,
}

pub(crate) struct State {
    /// The time of the input that is being applied.
    pub(crate) now: u64,
    pub(crate) random: Generator,
    /// Commands that the code issued and that are not yet matched with the history or handed out.
    pub(crate) commands: VecDeque<EventKind>,
    /// The futures of steps that were issued and are neither handed out nor resolved.
    pub(crate) steps: BTreeMap<u32, (String, StepFuture)>,
    /// Open timers whose futures are gone, and which were not cancelled by that.
    pub(crate) abandoned: Vec<u32>,
    /// The commands that were open when their futures were dropped in this turn, and are to be cancelled.
    dropped: BTreeMap<u32, SlotKind>,
    pub(crate) compensations: Vec<Compensation>,
    pub(crate) failed_compensations: Vec<Failure>,
    pub(crate) cancel_requested: Option<Option<String>>,
    /// Cancellation was requested while all that was awaited was shielded. The next command that is begun or awaited
    /// without a shield gets it.
    cancellation_waits: bool,
    /// How many shields the code that is polled right now is under.
    shields: u32,
    pub(crate) replaying: bool,
    /// Something the code did wrong where it could not be told with an error.
    pub(crate) fault: Option<StopReason>,
    /// Why the code could not read a result, since this was last taken.
    pub(crate) unread_result: Option<String>,
    /// Steps that were dropped or cancelled after they were handed out.
    pub(crate) dropped_steps: Vec<u32>,
    /// Why the code could not read its input.
    pub(crate) unread_input: Option<String>,
    /// The code continues as new, with this input, and in this version if that is another.
    pub(crate) next_run: Option<(Payload, Option<u32>)>,
    /// Events so far: inputs that had an effect, and commands.
    pub(crate) history_len: usize,
    /// Moves with everything that counts as progress; tells a busy loop from work.
    pub(crate) progress: u64,
    /// How many of our futures somebody waits for right now.
    pub(crate) awaited: usize,
    /// How many handlers have begun and not ended.
    pub(crate) open_handlers: usize,
    /// The instance is being dropped.
    pub(crate) closing: bool,
    slots: model::Slots,
    channels: HashMap<String, model::ChannelState>,
    conditions: model::Conditions,
    versions: model::Versions,
    sends: model::Sends,
    /// The last value of each attribute; `None`: that it has none.
    attributes: BTreeMap<String, Option<Attribute>>,
    tickets: u64,
}

pub(crate) struct Compensation {
    pub(crate) saga: u64,
    pub(crate) future: CompensationFuture,
}

impl Core {
    pub(crate) fn new(started: Box<Started>, now: u64, waker: Arc<RootWaker>, fit_check: Option<FitCheck>) -> Self {
        let state = State {
            now,
            random: Generator::seeded(started.seed),
            commands: VecDeque::new(),
            steps: BTreeMap::new(),
            abandoned: Vec::new(),
            dropped: BTreeMap::new(),
            compensations: Vec::new(),
            failed_compensations: Vec::new(),
            cancel_requested: None,
            cancellation_waits: false,
            shields: 0,
            replaying: false,
            fault: None,
            unread_result: None,
            dropped_steps: Vec::new(),
            unread_input: None,
            next_run: None,
            history_len: 1,
            progress: 0,
            awaited: 0,
            open_handlers: 0,
            closing: false,
            slots: model::Slots::default(),
            channels: HashMap::new(),
            conditions: model::Conditions::default(),
            versions: model::Versions::default(),
            sends: model::Sends::default(),
            attributes: BTreeMap::new(),
            tickets: 0,
        };
        Self { started, waker, fit_check, state: Mutex::new(state) }
    }

    /// Whether dropping a future cancels what it began.
    pub(crate) fn drop_cancels(&self) -> bool {
        self.started.rules >= 1
    }

    /// Whether this instance's turn is on this thread.
    pub(crate) fn is_in_turn(&self) -> bool {
        self.waker.is_polling_here()
    }

    /// Refuses an id that nobody can have.
    pub(crate) fn check_id(&self, id: &str) -> Result<(), InvalidId> {
        if self.started.rules >= 1 { check_id(id) } else { Ok(()) }
    }

    /// Whether compensations are shielded.
    pub(crate) fn shields_compensations(&self) -> bool {
        self.started.rules >= 1
    }

    /// Shields everything that is polled while this is held.
    pub(crate) fn shield(&self) -> Shield<'_> {
        self.lock().shields += 1;
        Shield(self)
    }

    /// The state, for ourselves. A panic of the author's code cannot leave it half changed: none of it runs under the
    /// lock.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, for a call of the author's code.
    ///
    /// # Panics
    /// When that code runs anywhere but inside this instance's turn: within a step, or in a task spawned elsewhere.
    pub(crate) fn enter(&self) -> MutexGuard<'_, State> {
        assert!(
            self.waker.is_polling_here(),
            "the context of workflow {}/{} was used outside of the workflow's own code (in a step, or in a spawned task); \
             compute what you need before, and move the values in",
            self.started.workflow,
            self.started.id
        );
        self.lock()
    }

    /// From now on futures are dropped because the instance is, which asks for nothing.
    pub(crate) fn begin_closing(&self) {
        self.lock().closing = true;
    }

    /// Drops what keeps the core alive by pointing back to it.
    pub(crate) fn close(&self) {
        let (steps, compensations) = {
            let mut state = self.lock();
            state.closing = true;
            (std::mem::take(&mut state.steps), std::mem::take(&mut state.compensations))
        };
        drop(compensations);
        drop(steps);
    }
}

/// Held while code is polled that cancellation is not to reach.
pub(crate) struct Shield<'a>(&'a Core);

impl Drop for Shield<'_> {
    fn drop(&mut self) {
        self.0.lock().shields -= 1;
    }
}

impl State {
    pub(crate) fn is_shielded(&self) -> bool {
        self.shields > 0
    }

    /// The cancellation of the run before is for the first thing that is begun or awaited without a shield.
    pub(crate) fn begin_cancelled(&mut self, reason: Option<String>) {
        self.cancel_requested = Some(reason);
        self.cancellation_waits = true;
    }

    /// Cancels all that is awaited without a shield; where there is nothing, the cancellation waits for it.
    pub(crate) fn cancel_awaited(&mut self) -> Vec<Waker> {
        let mut wakers = self.cancel_open();
        wakers.extend(self.cancel_receivers());
        wakers.extend(self.cancel_conditions());
        self.cancellation_waits = wakers.is_empty();
        wakers
    }

    /// Whether a cancellation that waits is for what is begun or awaited now.
    pub(crate) fn take_cancellation(&mut self) -> bool {
        !self.is_shielded() && std::mem::take(&mut self.cancellation_waits)
    }

    /// The time of an input, for which clocks that differ may show less than for an earlier one. Returns the time
    /// before.
    pub(crate) fn advance_to(&mut self, at: u64, rules: u32) -> u64 {
        let before = self.now;
        self.now = if rules >= 1 { at.max(before) } else { at };
        before
    }

    pub(crate) fn issue(&mut self, command: EventKind) {
        self.progress += 1;
        self.history_len += 1;
        self.commands.push_back(command);
    }

    pub(crate) fn ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets
    }
}

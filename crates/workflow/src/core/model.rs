//! The parts of the state of a live instance.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use crate::{EventKind, Failure, Payload, TooLarge};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SlotKind {
    Task,
    Timer,
    Child,
    Step,
}

#[derive(Debug)]
pub(crate) enum Resolution {
    Value(Payload),
    Failed(Box<Failure>),
    Fired,
    Cancelled,
}

#[derive(Debug)]
pub(super) enum Slot {
    /// The future was built; its command is not issued yet.
    Claimed,
    /// The command was issued.
    Open(Open),
    Resolved(Resolution),
    Done,
}

#[derive(Debug)]
pub(super) struct Open {
    pub(super) kind: SlotKind,
    /// There while somebody waits.
    pub(super) waker: Option<Waker>,
    /// It was begun or last awaited under a shield: cancellation passes over it.
    pub(super) shielded: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Slots(pub(super) Vec<Slot>);

impl Slots {
    pub(super) fn get_mut(&mut self, seq: u32) -> Option<&mut Slot> {
        self.0.get_mut((seq as usize).checked_sub(1)?)
    }
}

/// Whether a receiver wants a payload. Runs without the lock: it is code of the author.
pub(crate) type Filter = Arc<dyn Fn(&Payload) -> bool + Send + Sync>;

#[derive(Default)]
pub(crate) struct ChannelState {
    /// Signals that no waiting receiver wanted, oldest first.
    pub(super) kept: VecDeque<Payload>,
    /// By ticket: in the order in which they began to wait.
    pub(super) receivers: BTreeMap<u64, Receiver>,
}

pub(super) struct Receiver {
    pub(super) filter: Option<Filter>,
    pub(super) shielded: bool,
    pub(super) state: ReceiverState,
}

pub(super) enum ReceiverState {
    Waiting(Waker),
    Delivered(Payload),
    Cancelled,
}

/// By ticket.
#[derive(Default)]
pub(crate) struct Conditions(pub(super) BTreeMap<u64, Condition>);

pub(super) enum Condition {
    Waiting { waker: Waker, shielded: bool },
    Cancelled,
}

#[derive(Default)]
pub(crate) struct Versions {
    /// Markers found in the history.
    pub(super) recorded: HashMap<String, u32>,
    /// The versions that the code was told in this life of the instance; it is told the same for ever.
    pub(super) decided: HashMap<String, u32>,
}

/// Notes whom to wake from now on. The one before is handed back, to be dropped without the lock.
pub(super) fn replace_waker(known: &mut Waker, waker: &Waker) -> Option<Waker> {
    (!known.will_wake(waker)).then(|| std::mem::replace(known, waker.clone()))
}

/// Says whether the message fits into one of the broker's that a command asks for.
pub type FitCheck = Arc<dyn Fn(&EventKind) -> Result<(), TooLarge> + Send + Sync>;

/// Knowledge of the history about the messages that the code sends and does not wait for.
#[derive(Default)]
pub(crate) struct Sends {
    pub(super) refused: BTreeMap<u32, TooLarge>,
    /// The highest number of a command in the history. Of one that is not higher it is known how it went.
    pub(super) known_until: u32,
}

impl Sends {
    /// `None`: the code is beyond the end of the history.
    pub(super) fn known(&self, seq: u32) -> Option<Result<(), TooLarge>> {
        match self.refused.get(&seq) {
            Some(too_large) => Some(Err(*too_large)),
            None => (seq <= self.known_until).then_some(Ok(())),
        }
    }
}

//! The work that a turn leaves to be done once it is committed.

use partitura_broker::{Delayed, Timestamp, Unit};
use partitura_workflow::Step;
use tracing::Span;

use crate::wire::{Outcome, ReplyBody, ReplyTo};
use crate::workflow::instance::Instance;
use crate::workflow::listeners::{CancelledTask, Listener};
use crate::workflow::update_waiters::{Answered, UpdateWaiter};

/// A turn that is over: what is to be committed, and what follows.
pub(crate) struct Finished {
    /// `None`: nothing changed.
    pub(crate) unit: Option<Unit>,
    /// The latest run, if there is one.
    pub(crate) run: String,
    /// The instance after the turn.
    pub(crate) instance: Instance,
    /// The turn, in a trace.
    pub(crate) span: Span,
    pub(crate) after: AfterCommit,
}

/// All that follows the commit and need not be durable.
#[derive(Default)]
pub(crate) struct AfterCommit {
    /// To be sent once the turn is committed.
    pub(crate) replies: Vec<(ReplyTo, ReplyBody)>,
    /// To be run once the turn is committed.
    pub(crate) steps: Vec<(String, Step)>,
    /// Steps that run and that nobody awaits any more; without a number, all of the run.
    pub(crate) dropped_steps: Vec<(String, Option<u32>)>,
    /// Delayed messages of the instance to itself that nobody needs once the turn is committed.
    pub(crate) cancelled_delays: Vec<Delayed>,
    /// Tasks that run and are to be told when they are no longer wanted.
    pub(crate) listening: Vec<Listener>,
    /// Tasks that are no longer wanted once the turn is committed.
    pub(crate) cancelled_tasks: Vec<CancelledTask>,
    /// The addresses that are to be told the outcome later.
    pub(crate) waiters: Vec<ReplyTo>,
    /// The addresses that are to be told the results of updates later.
    pub(crate) update_waiters: Vec<UpdateWaiter>,
    /// Updates that were answered, and runs that have ended.
    pub(crate) answered: Answered,
    /// How many instances the turn has started.
    pub(crate) started: u64,
    /// How many it has stopped.
    pub(crate) stopped: u64,
    /// The turn has paused the instance since its workflow is paused.
    pub(crate) is_held: bool,
    /// The outcome, if the turn ended the instance.
    pub(crate) ended: Option<Outcome>,
    /// Why, if the turn stopped the instance.
    pub(crate) stops: Option<String>,
    /// When the earliest run that has ended in the turn is to be deleted.
    pub(crate) expires: Option<Timestamp>,
    /// The outcomes of earlier runs that new ones replaced, and who of this turn waits for them.
    pub(crate) replaced: Vec<(Outcome, Vec<ReplyTo>)>,
}

//! One slot per `seq`: built, open, resolved, done.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::model::{Open, Resolution, Slot, SlotKind};
use super::{Core, State, StepFuture};
use crate::EventKind;

/// The part that all futures with a `seq` have in common.
#[derive(Debug)]
pub(crate) struct Leaf {
    core: Arc<Core>,
    seq: u32,
    /// It was started by hand: dropping it cancels nothing.
    kept: bool,
}

impl State {
    /// The next `seq`.
    pub(crate) fn claim(&mut self) -> u32 {
        self.slots.0.push(Slot::Claimed);
        u32::try_from(self.slots.0.len()).unwrap_or(u32::MAX)
    }

    /// The next `seq` for a command that has no result.
    pub(crate) fn claim_done(&mut self) -> u32 {
        self.slots.0.push(Slot::Done);
        u32::try_from(self.slots.0.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn is_open(&self, seq: u32) -> bool {
        (seq as usize).checked_sub(1).is_some_and(|index| matches!(self.slots.0.get(index), Some(Slot::Open(..))))
    }

    /// Gives an open slot its result. `None`: there is no such open slot. Otherwise whom to wake, once unlocked.
    pub(crate) fn resolve(&mut self, seq: u32, kind: SlotKind, resolution: Resolution) -> Option<Option<Waker>> {
        let slot = self.slots.get_mut(seq)?;
        if !matches!(slot, Slot::Open(open) if open.kind == kind) {
            return None;
        }
        let Slot::Open(Open { waker, .. }) = std::mem::replace(slot, Slot::Resolved(resolution)) else { return None };
        self.awaited -= usize::from(waker.is_some());
        Some(waker)
    }

    /// Resolves everything open that is not shielded with `Cancelled`, in order of `seq`, and issues what tells the
    /// others.
    pub(crate) fn cancel_open(&mut self) -> Vec<Waker> {
        let open: Vec<(u32, SlotKind)> = (1..)
            .zip(&self.slots.0)
            .filter_map(|(seq, slot)| match slot {
                Slot::Open(open) if !open.shielded => Some((seq, open.kind)),
                _ => None,
            })
            .collect();
        open.into_iter().filter_map(|(seq, kind)| self.cancel(seq, kind).flatten()).collect()
    }

    fn cancel(&mut self, seq: u32, kind: SlotKind) -> Option<Option<Waker>> {
        let waker = self.resolve(seq, kind, Resolution::Cancelled)?;
        self.issue_cancellation(seq, kind);
        Some(waker)
    }

    /// Issues what stops that which dropped futures began, in order of `seq`: the order of the drops is the author's
    /// affair.
    pub(crate) fn cancel_dropped(&mut self) {
        for (seq, kind) in std::mem::take(&mut self.dropped) {
            self.issue_cancellation(seq, kind);
        }
    }

    /// The future of `seq` is gone. The caller drops the remains without the lock.
    fn leave(&mut self, seq: u32, cancels: bool) -> (Option<Waker>, Option<Slot>, Option<(String, StepFuture)>) {
        let cancels = cancels && !self.closing;
        let Some(slot) = self.slots.get_mut(seq) else { return (None, None, None) };
        let Slot::Open(open) = slot else { return (None, Some(std::mem::replace(slot, Slot::Done)), None) };
        let (kind, waker) = (open.kind, open.waker.take());
        self.awaited -= usize::from(waker.is_some());
        if cancels {
            *slot = Slot::Done;
            self.dropped.insert(seq, kind);
            return (waker, None, self.steps.remove(&seq));
        }
        self.abandoned.extend((kind == SlotKind::Timer).then_some(seq));
        (waker, None, None)
    }

    fn issue_cancellation(&mut self, seq: u32, kind: SlotKind) {
        match kind {
            SlotKind::Task => self.issue(EventKind::TaskCancelRequested { seq }),
            SlotKind::Timer => self.issue(EventKind::TimerCancelled { seq }),
            SlotKind::Child => self.issue(EventKind::ChildCancelRequested { seq }),
            SlotKind::Step => self.dropped_steps.push(seq),
        }
    }
}

impl Leaf {
    pub(crate) fn claim(core: &Arc<Core>) -> Self {
        let seq = core.enter().claim();
        Self { core: Arc::clone(core), seq, kept: false }
    }

    /// Notes that its result could not be read, and why. Gives that back.
    pub(crate) fn unread(&self, problem: String) -> String {
        self.core.lock().unread_result.get_or_insert_with(|| problem.clone());
        problem
    }

    /// Lets the commands that this has begun go on when it is dropped.
    pub(crate) fn keep(&mut self) {
        self.kept = true;
    }

    /// Lets the commands that this has begun go on when the workflow is cancelled or ends; its result is no longer
    /// awaited.
    pub(crate) fn detach(&self) {
        let mut state = self.core.enter();
        let Some(slot @ Slot::Open(..)) = state.slots.get_mut(self.seq) else { return };
        let open = std::mem::replace(slot, Slot::Done);
        state.awaited -= usize::from(matches!(open, Slot::Open(Open { waker: Some(_), .. })));
        state.issue(EventKind::Detached { seq: self.seq });
        drop(state);
        drop(open);
    }

    /// Issues the command and opens the slot.
    pub(crate) fn issue(&self, kind: SlotKind, command: impl FnOnce(u32, &mut State) -> EventKind) {
        let mut state = self.core.enter();
        if state.take_cancellation() {
            if let Some(slot @ Slot::Claimed) = state.slots.get_mut(self.seq) {
                *slot = Slot::Resolved(Resolution::Cancelled);
            }
            return;
        }
        let command = command(self.seq, &mut state);
        let shielded = state.is_shielded();
        if let Some(slot @ Slot::Claimed) = state.slots.get_mut(self.seq) {
            *slot = Slot::Open(Open { kind, waker: None, shielded });
            state.issue(command);
        }
    }

    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<Resolution> {
        let mut state = self.core.enter();
        let mut replaced = None;
        let mut newly_awaited = false;
        let shielded = state.is_shielded();
        if let Some(Slot::Open(Open { kind, .. })) = state.slots.get_mut(self.seq) {
            let kind = *kind;
            if state.take_cancellation() {
                replaced = state.cancel(self.seq, kind).flatten();
            }
        }
        let poll = match state.slots.get_mut(self.seq) {
            Some(Slot::Open(open)) => {
                open.shielded = shielded;
                if !open.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                    replaced = open.waker.replace(cx.waker().clone());
                    newly_awaited = replaced.is_none();
                }
                Poll::Pending
            }
            Some(slot @ Slot::Resolved(_)) => match std::mem::replace(slot, Slot::Done) {
                Slot::Resolved(resolution) => Poll::Ready(resolution),
                _ => Poll::Pending,
            },
            _ => {
                drop(state);
                panic!("a future was polled after it had completed");
            }
        };
        state.awaited += usize::from(newly_awaited);
        state.progress += u64::from(poll.is_ready());
        drop(state);
        drop(replaced);
        poll
    }

    /// Cancels what is open; the future resolves with `Cancelled`. Before the first poll no command goes out at all.
    pub(crate) fn cancel(&self, kind: SlotKind) {
        let mut state = self.core.enter();
        if let Some(slot @ Slot::Claimed) = state.slots.get_mut(self.seq) {
            *slot = Slot::Resolved(Resolution::Cancelled);
            return;
        }
        let waker = state.cancel(self.seq, kind).flatten();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Nobody waits any more. Open commands are cancelled at the end of the turn, unless the whole instance is being
/// dropped.
impl Drop for Leaf {
    fn drop(&mut self) {
        let cancels = !self.kept && self.core.drop_cancels() && self.core.is_in_turn();
        let mut state = self.core.lock();
        let (waker, resolution, step) = state.leave(self.seq, cancels);
        drop(state);
        drop((waker, resolution, step));
    }
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.started.workflow, self.started.id)
    }
}

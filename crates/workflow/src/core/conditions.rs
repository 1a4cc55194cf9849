//! Futures that wait for the workflow's own state to change.

use std::task::{Poll, Waker};

use super::model::{Condition, replace_waker};
use super::{Core, State};
use crate::Cancelled;

impl Core {
    /// Waits for the next change; the caller found its condition unmet.
    pub(crate) fn wait_for_change(&self, ticket: &mut Option<u64>, waker: &Waker) -> Poll<Cancelled> {
        let mut state = self.enter();
        let key = *ticket.get_or_insert_with(|| state.ticket());
        let shielded_now = state.is_shielded();
        if state.take_cancellation() {
            let waited = state.conditions.0.insert(key, Condition::Cancelled);
            state.awaited -= usize::from(matches!(waited, Some(Condition::Waiting { .. })));
        }
        match state.conditions.0.get_mut(&key) {
            Some(Condition::Cancelled) => {
                state.conditions.0.remove(&key);
                state.progress += 1;
                Poll::Ready(Cancelled)
            }
            Some(Condition::Waiting { waker: known, shielded }) => {
                *shielded = shielded_now;
                let replaced = replace_waker(known, waker);
                drop(state);
                drop(replaced);
                Poll::Pending
            }
            None => {
                state.conditions.0.insert(key, Condition::Waiting { waker: waker.clone(), shielded: shielded_now });
                state.awaited += 1;
                Poll::Pending
            }
        }
    }

    /// Nobody waits for this condition any more.
    pub(crate) fn forget_condition(&self, ticket: u64) {
        let mut state = self.lock();
        let forgotten = state.conditions.0.remove(&ticket);
        state.awaited -= usize::from(matches!(forgotten, Some(Condition::Waiting { .. })));
        drop(state);
        drop(forgotten);
    }

    /// The workflow's state may have changed: everyone looks again.
    pub(crate) fn state_changed(&self) {
        let wakers: Vec<Waker> = self
            .lock()
            .conditions
            .0
            .values()
            .filter_map(|condition| match condition {
                Condition::Waiting { waker, .. } => Some(waker.clone()),
                Condition::Cancelled => None,
            })
            .collect();
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl State {
    /// How many conditions somebody waits for.
    pub(crate) fn awaited_conditions(&self) -> usize {
        self.conditions.0.values().filter(|condition| matches!(condition, Condition::Waiting { .. })).count()
    }

    pub(crate) fn cancel_conditions(&mut self) -> Vec<Waker> {
        let mut wakers = Vec::new();
        for condition in self.conditions.0.values_mut() {
            match std::mem::replace(condition, Condition::Cancelled) {
                Condition::Waiting { waker, shielded: false } => wakers.push(waker),
                other => *condition = other,
            }
        }
        self.awaited -= wakers.len();
        wakers
    }
}

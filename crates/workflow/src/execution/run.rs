//! Polls the code of an instance, up to its next wait or its end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::{Execution, Stop, StopReason, panicked};
use crate::definition::Failed;
use crate::{EventKind, Payload};

/// Polls in a row that change nothing, before the code counts as spinning. Combinators poll again out of politeness,
/// but not this often.
const MOST_IDLE_POLLS: u32 = 1_000;

impl Execution {
    /// Polls the code until it waits for an input, or has ended: each time first the open handlers in the order in
    /// which they began, then `run`.
    pub(super) fn run_code(&mut self, mut due: bool) -> Result<(), Stop> {
        let root_waker = Arc::clone(&self.waker);
        let _turn = root_waker.begin_turn();
        let waker = Waker::from(Arc::clone(&root_waker));
        let mut cx = Context::from_waker(&waker);
        let (mut progress, mut idle_polls) = (0, 0);
        while std::mem::take(&mut due) | root_waker.take_woken() {
            if self.root.is_none() {
                return Ok(());
            }
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.run_handlers(&mut cx))) {
                return Err(self.stop(panicked(&*panic)));
            }
            let Some(root) = &mut self.root else { return Ok(()) };
            match catch_unwind(AssertUnwindSafe(|| root.as_mut().poll(&mut cx))) {
                Ok(Poll::Ready(result)) => return self.end(result),
                Ok(Poll::Pending) => {
                    let next = self.core.lock().next_run.take();
                    if let Some((input, version)) = next {
                        return self.continue_as_new(input, version);
                    }
                }
                Err(panic) => return Err(self.stop(panicked(&*panic))),
            }
            let now = self.core.lock().progress;
            idle_polls = if now == progress { idle_polls + 1 } else { 0 };
            progress = now;
            if idle_polls > MOST_IDLE_POLLS {
                return Err(self.stop(StopReason::Spinning));
            }
        }
        self.core.lock().cancel_dropped();
        self.check_wait()
    }

    /// The code waits: is it for something that we can ever give it?
    fn check_wait(&mut self) -> Result<(), Stop> {
        let (awaited, fault) = {
            let mut state = self.core.lock();
            (state.awaited, state.fault.take())
        };
        if let Some(reason) = fault {
            return Err(self.stop(reason));
        }
        let what = if self.waker.was_woken_from_outside() {
            "its code was woken by something outside of the workflow"
        } else if awaited == 0 {
            "its code waits for something that is not of its context"
        } else {
            return Ok(());
        };
        Err(self.stop(StopReason::Foreign { what: what.to_owned() }))
    }

    fn end(&mut self, result: Result<Payload, Failed>) -> Result<(), Stop> {
        let (cancel_requested, fault) = {
            let mut state = self.core.lock();
            (state.cancel_requested.clone(), state.fault.take())
        };
        if let Some(reason) = fault {
            return Err(self.stop(reason));
        }
        let outcome = match (result, cancel_requested) {
            (Ok(result), _) => EventKind::WorkflowCompleted { result },
            (Err(Failed { failure, is_final: false }), None) => match self.next_attempt() {
                Some(next) => EventKind::WorkflowRetried { run: self.hand_over(next), failure },
                None => EventKind::WorkflowFailed { failure },
            },
            (Err(Failed { failure, .. }), None) => EventKind::WorkflowFailed { failure },
            (Err(Failed { failure, .. }), Some(reason)) => {
                EventKind::WorkflowCancelled { reason, failure: Some(failure) }
            }
        };
        {
            let mut state = self.core.lock();
            state.cancel_dropped();
            state.issue(outcome.clone());
        }
        self.close(outcome);
        Ok(())
    }

    pub(super) fn close(&mut self, outcome: EventKind) {
        if outcome.is_imposed_end() {
            self.core.lock().commands.clear();
        }
        self.outcome = Some(outcome);
        self.abandon_code();
    }

    /// Drops the author's futures; a panic in one of their destructors is nobody's concern any more.
    pub(super) fn abandon_code(&mut self) {
        let (root, handlers) = (self.root.take(), std::mem::take(&mut self.handlers));
        let core = &self.core;
        core.begin_closing();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(root)));
        for handler in handlers {
            let _ = catch_unwind(AssertUnwindSafe(|| drop(handler)));
        }
        let _ = catch_unwind(AssertUnwindSafe(|| core.close()));
    }
}

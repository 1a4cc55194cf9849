//! Runs that follow each other under one id.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::Execution;
use super::stop::{Stop, StopReason};
use crate::failure::panic_message;
use crate::{CancelRequest, Continued, EarlierUpdate, EventKind, Payload};

impl Execution {
    /// Takes over what the run before has left, before the code runs.
    pub(super) fn take_over(&mut self) -> Result<(), Stop> {
        let Some(continued) = self.core.started.continued.as_deref().cloned() else { return Ok(()) };
        continued.seen.into_iter().for_each(|id| self.seen_messages.insert(id, ()));
        continued.updates.into_iter().for_each(|earlier| self.seen_updates.insert(earlier.id, earlier.run));
        if let Some(CancelRequest { reason }) = continued.cancel {
            self.core.lock().begin_cancelled(reason);
        }
        for (name, signals) in continued.signals {
            for payload in signals {
                self.take_over_signal(&name, payload)?;
            }
        }
        Ok(())
    }

    /// Code that has a handler by now gets it there. What the handler cannot read stays in its channel.
    fn take_over_signal(&mut self, name: &str, payload: Payload) -> Result<(), Stop> {
        let waker = Arc::clone(&self.waker);
        let _turn = waker.begin_turn();
        match catch_unwind(AssertUnwindSafe(|| self.handle_signal(name, &payload))) {
            Ok(Ok(true)) => self.core.state_changed(),
            Ok(Ok(false) | Err(_)) => self.core.deliver(name, payload),
            Err(panic) => {
                let (handler, message) = (format!("signal {name}"), panic_message(&*panic));
                return Err(self.stop(StopReason::HandlerPanicked { handler, message }));
            }
        }
        Ok(())
    }

    /// Ends the run: the code has asked for the next one.
    pub(super) fn continue_as_new(&mut self, input: Payload) -> Result<(), Stop> {
        let fault = self.core.lock().fault.take();
        if let Some(reason) = fault {
            return Err(self.stop(reason));
        }
        let started = &self.core.started;
        let first = started.continued.as_ref().map_or(&started.run, |continued| &continued.first).clone();
        let from = started.run.clone();
        let seen = self.seen_messages.latest().map(|(id, ())| id.clone()).collect();
        let earlier = |(id, run): (&String, &String)| EarlierUpdate { id: id.clone(), run: run.clone() };
        let updates = self.seen_updates.latest().map(earlier).collect();
        let outcome = EventKind::WorkflowContinued { run: String::new(), input };
        {
            let mut state = self.core.lock();
            let cancel = state.cancel_requested.clone().map(|reason| CancelRequest { reason });
            let signals = state.take_signals();
            self.continuation = Some(Box::new(Continued { from, first, signals, seen, updates, cancel }));
            state.issue(outcome.clone());
        }
        self.close(outcome);
        Ok(())
    }
}

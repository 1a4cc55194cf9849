//! Runs that follow each other under one id.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::stop::{Stop, StopReason};
use super::{Execution, Turn};
use crate::failure::panic_message;
use crate::{CancelRequest, Continued, EarlierUpdate, EventKind, Failure, Payload};

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

    /// Code that has a handler by now gets it there. A signal that the handler cannot read stays in its channel.
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
    pub(super) fn continue_as_new(&mut self, input: Payload, version: Option<u32>) -> Result<(), Stop> {
        let fault = self.core.lock().fault.take();
        if let Some(reason) = fault {
            return Err(self.stop(reason));
        }
        let outcome = EventKind::WorkflowContinued { run: self.hand_over(NextRun::default()), input, version };
        self.core.lock().issue(outcome.clone());
        self.close(outcome);
        Ok(())
    }

    /// Ends a run that has failed without a part of its code, if it is to be tried again: the turn with its end.
    /// `None`: it is not, and goes on.
    pub fn retry_after(&mut self, failure: Failure, at: u64) -> Option<Turn> {
        if self.is_closed() || self.stopped.is_some() || self.is_cancel_requested() {
            return None;
        }
        self.core.lock().advance_to(at, self.core.started.rules);
        let next = self.next_attempt()?;
        let outcome = EventKind::WorkflowRetried { run: self.hand_over(next), failure };
        self.close(outcome.clone());
        self.core.lock().issue(outcome);
        Some(self.take_turn())
    }

    /// The attempt that follows this one, if its failure is not final.
    pub(super) fn next_attempt(&self) -> Option<NextRun> {
        let started = &self.core.started;
        let retry = started.retry?;
        let (now, random) = {
            let mut state = self.core.lock();
            (state.now, state.random.draw())
        };
        let wait = retry.delay(started.attempt(), random)?.max(SHORTEST_WAIT);
        let begins_at = now.saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        let is_in_time = started.deadline.is_none_or(|deadline| begins_at < deadline);
        is_in_time.then_some(NextRun { failed_before: started.attempt(), begins_at: Some(begins_at) })
    }

    /// Hands on to the next run an input that was kept while the code could not go on, if the code has ended this run by
    /// an earlier one: nobody else would receive it.
    pub(super) fn hand_on(&mut self, kept: &EventKind) {
        let Some(continued) = &mut self.continuation else { return };
        match kept {
            EventKind::SignalReceived { name, payload, message_id } if self.seen_messages.get(message_id).is_none() => {
                self.seen_messages.insert(message_id.clone(), ());
                continued.seen.push(message_id.clone());
                continued.signals.entry(name.clone()).or_default().push(payload.clone());
            }
            EventKind::CancelRequested { reason } => {
                continued.cancel.get_or_insert_with(|| CancelRequest { reason: reason.clone() });
            }
            _ => {}
        }
    }

    /// Keeps what the next run takes over. The name of that run is not known yet.
    pub(super) fn hand_over(&mut self, NextRun { failed_before, begins_at }: NextRun) -> String {
        let started = &self.core.started;
        let first = started.continued.as_ref().map_or(&started.run, |continued| &continued.first).clone();
        let from = started.run.clone();
        let seen = self.seen_messages.latest().map(|(id, ())| id.clone()).collect();
        let earlier = |(id, run): (&String, &String)| EarlierUpdate { id: id.clone(), run: run.clone() };
        let updates = self.seen_updates.latest().map(earlier).collect();
        let mut state = self.core.lock();
        let cancel = state.cancel_requested.clone().map(|reason| CancelRequest { reason });
        let signals = state.take_signals();
        self.continuation =
            Some(Box::new(Continued { from, first, signals, seen, updates, cancel, failed_before, begins_at }));
        String::new()
    }
}

/// How the next run of a chain begins.
#[derive(Debug, Default)]
pub(super) struct NextRun {
    failed_before: u32,
    begins_at: Option<u64>,
}

/// An attempt never follows at once: a run that fails at its beginning is to leave room for others.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

//! The effect of each kind of input on an instance before its code is polled.

use std::collections::BTreeMap;
use std::task::Waker;

use super::Execution;
use crate::core::{Resolution, SlotKind};
use crate::{EventKind, Failure, Payload};

impl Execution {
    /// Whether the input had an effect; an error says what is wrong with it.
    pub(super) fn take_in(&mut self, input: EventKind) -> Result<bool, String> {
        Ok(match input {
            EventKind::SignalReceived { name, payload, message_id } => {
                return self.take_in_signal(&name, payload, message_id);
            }
            EventKind::UpdateReceived { name, args, id } => return self.take_in_update(&name, &args, id),
            EventKind::CancelRequested { reason } => self.take_in_cancellation(reason),
            EventKind::TaskCompleted { seq, result } => self.resolve(seq, SlotKind::Task, Resolution::Value(result)),
            EventKind::ChildCompleted { seq, result } => self.resolve(seq, SlotKind::Child, Resolution::Value(result)),
            EventKind::StepCompleted { seq, result } => self.resolve(seq, SlotKind::Step, Resolution::Value(result)),
            EventKind::TaskFailed { seq, failure, .. } => self.resolve(seq, SlotKind::Task, failed(failure)),
            EventKind::ChildFailed { seq, failure } => self.resolve(seq, SlotKind::Child, failed(failure)),
            EventKind::StepFailed { seq, failure } => self.resolve(seq, SlotKind::Step, failed(failure)),
            EventKind::TimerFired { seq } => self.resolve(seq, SlotKind::Timer, Resolution::Fired),
            EventKind::TaskHeartbeat { seq, .. } => self.core.lock().is_open(seq),
            EventKind::WorkflowStopped { .. }
            | EventKind::WorkflowResumed { .. }
            | EventKind::WorkflowPaused { .. }
            | EventKind::Intervened { .. } => false,
            other => return Err(format!("{other} is not an input of a running instance")),
        })
    }

    fn take_in_signal(&mut self, name: &str, payload: Payload, message_id: String) -> Result<bool, String> {
        if self.seen_messages.get(&message_id).is_some() {
            return Ok(false);
        }
        let handled = self.handle_signal(name, &payload).map_err(|error| format!("signal {name}: {error}"))?;
        self.seen_messages.insert(message_id, ());
        if handled {
            self.core.state_changed();
        } else {
            self.core.deliver(name, payload);
        }
        Ok(true)
    }

    /// The answer of a handler that does not wait is recorded behind the update, before anything that the code does
    /// about it.
    fn take_in_update(&mut self, name: &str, args: &Payload, id: String) -> Result<bool, String> {
        if self.seen_updates.get(&id).is_some() {
            return Ok(false);
        }
        let begun = self.begin_update(name, args, &id).map_err(|error| format!("update {name}: {error}"))?;
        if begun {
            self.seen_updates.insert(id, self.core.started.run.clone());
            return Ok(true);
        }
        let answer = self.instance.update(name, args).map_err(|refusal| format!("update {name}: {refusal}"))?;
        self.seen_updates.insert(id.clone(), self.core.started.run.clone());
        self.core.lock().issue(match answer {
            Ok(result) => EventKind::UpdateCompleted { id, result },
            Err(failure) => EventKind::UpdateFailed { id, failure },
        });
        self.core.state_changed();
        Ok(true)
    }

    /// The edge: everything pending that is not shielded resolves with `Cancelled`.
    fn take_in_cancellation(&mut self, reason: Option<String>) -> bool {
        let (wakers, abandoned): (_, BTreeMap<_, _>) = {
            let mut state = self.core.lock();
            if state.cancel_requested.is_some() {
                return false;
            }
            state.cancel_requested = Some(reason);
            let wakers = state.cancel_awaited();
            let steps = std::mem::take(&mut state.steps);
            let (shielded, abandoned) = steps.into_iter().partition(|(seq, _)| state.is_open(*seq));
            state.steps = shielded;
            (wakers, abandoned)
        };
        wakers.into_iter().for_each(Waker::wake);
        drop(abandoned);
        true
    }

    fn resolve(&self, seq: u32, kind: SlotKind, resolution: Resolution) -> bool {
        let (resolved, step) = {
            let mut state = self.core.lock();
            let resolved = state.resolve(seq, kind, resolution);
            let step = if resolved.is_some() { state.steps.remove(&seq) } else { None };
            (resolved, step)
        };
        drop(step);
        let applied = resolved.is_some();
        if let Some(waker) = resolved.flatten() {
            waker.wake();
        }
        applied
    }
}

fn failed(failure: Failure) -> Resolution {
    Resolution::Failed(Box::new(failure))
}

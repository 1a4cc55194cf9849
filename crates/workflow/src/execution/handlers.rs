//! Handlers that wait: they run beside `run`, each up to its next wait.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::Execution;
use super::open_handler::OpenHandler;
use crate::{EventKind, Payload, PayloadError};

impl Execution {
    /// Gives a signal to its handler. `false`: it has none.
    pub(super) fn handle_signal(&mut self, name: &str, payload: &Payload) -> Result<bool, PayloadError> {
        match self.instance.begin_signal(name, payload)? {
            Some(future) => {
                self.begin_handler(OpenHandler { update: None, future });
                Ok(true)
            }
            None => self.instance.signal(name, payload),
        }
    }

    /// Begins the handler of an update that waits. `false`: its handler does not, or there is none.
    pub(super) fn begin_update(&mut self, name: &str, args: &Payload, id: &str) -> Result<bool, PayloadError> {
        let Some(future) = self.instance.begin_update(name, args)? else { return Ok(false) };
        self.begin_handler(OpenHandler { update: Some(id.to_owned()), future });
        Ok(true)
    }

    fn begin_handler(&mut self, mut handler: OpenHandler) {
        let waker = Waker::from(Arc::clone(&self.waker));
        if !self.has_ended(&mut handler, &mut Context::from_waker(&waker)) {
            self.handlers.push(handler);
            self.core.lock().open_handlers = self.handlers.len();
        }
    }

    /// Lets the open handlers go on, in the order in which they began.
    pub(super) fn run_handlers(&mut self, cx: &mut Context<'_>) {
        if self.handlers.is_empty() {
            return;
        }
        for mut handler in std::mem::take(&mut self.handlers) {
            if !self.has_ended(&mut handler, cx) {
                self.handlers.push(handler);
            }
        }
        let open = self.handlers.len();
        let before = std::mem::replace(&mut self.core.lock().open_handlers, open);
        if open < before {
            self.core.state_changed();
        }
    }

    fn has_ended(&self, handler: &mut OpenHandler, cx: &mut Context<'_>) -> bool {
        let Poll::Ready(answer) = handler.future.as_mut().poll(cx) else { return false };
        let mut state = self.core.lock();
        state.progress += 1;
        match (handler.update.take(), answer) {
            (None, _) => {}
            (Some(id), Ok(result)) => state.issue(EventKind::UpdateCompleted { id, result }),
            (Some(id), Err(failure)) => state.issue(EventKind::UpdateFailed { id, failure }),
        }
        true
    }

    /// Whether an update has begun and not been answered. None is once the instance has ended.
    pub fn is_update_open(&self, id: &str) -> bool {
        self.handlers.iter().any(|handler| handler.update.as_deref() == Some(id))
    }
}

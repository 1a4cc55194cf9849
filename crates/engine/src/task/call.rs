//! One attempt of a task, as it was delivered.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use partitura_broker::{AckToken, Message};
use partitura_lanes::headers;
use partitura_workflow::TraceContext;

use crate::wire::TaskRequest;

/// On a task that was put back, what is known of that: `since times redriven id builds`.
pub(super) const TRIED: &str = "partitura-tried";

/// One attempt of a task, as it was delivered.
pub(super) struct Call {
    pub(super) request: Arc<TaskRequest>,
    pub(super) message: Message,
    pub(super) redelivered: bool,
    /// How to settle it, until that is done or being done.
    pub(super) token: Mutex<Option<AckToken>>,
    /// A copy stands for it, or another has it.
    pub(super) is_let_go: AtomicBool,
    /// Where its run stands in a trace.
    pub(super) trace: OnceLock<TraceContext>,
}

impl Call {
    pub(super) fn redriven(&self) -> Option<&Bytes> {
        self.message.headers.get(headers::REDRIVEN)
    }

    /// Whether it may have been run before, or somebody may have lost interest since it was sent.
    pub(super) fn is_questionable(&self) -> bool {
        let sent_before = self.request.attempt > 1 || self.request.copies > 0;
        self.redelivered || sent_before || self.redriven().is_some() || self.message.headers.get(TRIED).is_some()
    }

    /// Whether a process that was lost may have run it.
    pub(super) fn may_have_begun(&self) -> bool {
        self.redelivered || self.request.holder.is_some()
    }

    /// The name under which its crashes are counted.
    pub(super) fn name(&self) -> Bytes {
        [b"task\0", self.request.message_id().as_bytes()].concat().into()
    }

    /// The context that what is said of the attempt carries.
    pub(super) fn trace(&self) -> Option<&TraceContext> {
        self.trace.get().or(self.request.trace.as_ref())
    }

    pub(super) fn take_token(&self) -> Option<AckToken> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn has_token(&self) -> bool {
        self.token.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    pub(super) fn put_token(&self, token: AckToken) {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
    }
}

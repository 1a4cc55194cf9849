//! The instance that a handle and its requests mean.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::connection::Connection;
use crate::messaging::mailbox::PendingReply;

/// An instance of the workflow of the handle. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) connection: Arc<Connection>,
    pub(crate) id: Arc<str>,
    /// The outcome that a start by this handle awaits already.
    pending: Arc<Mutex<Option<PendingReply>>>,
}

impl Target {
    pub(crate) fn new(connection: Arc<Connection>, id: String) -> Self {
        Self { connection, id: id.into(), pending: Arc::default() }
    }

    pub(crate) fn pending(&self) -> MutexGuard<'_, Option<PendingReply>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)
    }
}

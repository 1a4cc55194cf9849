//! The instance that a handle and its requests mean.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use partitura_broker::Timestamp;
use partitura_workflow::Workflow;

use super::connection::Connection;
use crate::error::ClientError;
use crate::messaging::mailbox::PendingReply;
use crate::wire::Command;

/// An instance of the workflow of the handle. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) connection: Arc<Connection>,
    pub(crate) id: Arc<str>,
    /// The outcome that a start by this handle awaits already.
    pending: Arc<Mutex<Pending>>,
}

/// The start by a handle, to be awaited.
#[derive(Default)]
pub(crate) struct Pending {
    /// Brings the outcome.
    pub(crate) outcome: Option<PendingReply>,
    /// When the instance begins, if the start was delayed.
    pub(crate) begins: Option<Timestamp>,
}

impl Target {
    pub(crate) fn new(connection: Arc<Connection>, id: String) -> Self {
        Self { connection, id: id.into(), pending: Arc::default() }
    }

    pub(crate) fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long it is until the instance begins, if a delayed start by this handle is on its way.
    pub(crate) fn begins_in(&self) -> Option<Duration> {
        let begins = self.pending().begins?;
        Some(begins.since(self.connection.clock.now())).filter(|wait| !wait.is_zero())
    }

    /// Asks for the outcome. After a delayed start the question goes its way and to the same moment, so that it comes
    /// behind the start: by which clock that is due is the broker's affair, and ours may show another time.
    pub(crate) async fn ask_for_outcome<W: Workflow>(
        &self,
        stops: bool,
        begins: Option<Timestamp>,
    ) -> Result<PendingReply, ClientError> {
        let connection = &self.connection;
        let (reply_to, reply) = connection.mailbox.request();
        let horizon = connection.directory.horizon(connection.clock.now());
        let question = Command::Await { reply_to, stops };
        let not_before = begins.map(|time| time.min(horizon));
        connection.send_delayed((W::NAME, &self.id), connection.fresh(), &question, not_before).await?;
        Ok(reply)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)
    }
}

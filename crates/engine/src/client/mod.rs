//! Clients: start workflows, and talk to them.

mod connection;
pub(crate) mod event_streams;
pub(crate) mod handle;
pub(crate) mod requests;
mod target;

use std::sync::Arc;

use partitura_workflow::Workflow;

pub(crate) use self::connection::Connection;
use self::connection::unexpected;
use self::handle::WorkflowHandle;
use crate::error::ClientError;
use crate::wire::summary::{Filter, Summary};
use crate::wire::{Command, ReplyBody};

/// Starts workflows, and talks to them, from any process that is connected to the broker (the embedded broker: the one process that
/// has its file open). Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client(Arc<Connection>);

impl Client {
    pub(crate) fn new(connection: Connection) -> Self {
        Self(Arc::new(connection))
    }

    /// The instance of the workflow `W` with this id, whether it exists or not.
    pub fn workflow<W: Workflow>(&self, id: impl Into<String>) -> WorkflowHandle<W> {
        WorkflowHandle::new(self.0.clone(), id.into())
    }

    /// Lists instances of the workflow `W`, in the order of their ids' bytes: up to [`limit`](Filter::limit) of those that match, read
    /// page by page.
    ///
    /// # Errors
    /// [`NoAnswer`](ClientError::NoAnswer) when no worker of the workflow answers; those of the broker.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn list<W: Workflow>(&self, mut filter: Filter) -> Result<Vec<Summary>, ClientError> {
        let mut listed = Vec::new();
        loop {
            let question = |reply_to| Command::List { filter: filter.clone(), reply_to };
            // Any worker answers from the store; a key of its own each time spreads the work.
            let (mut page, more) = match self.0.ask::<W>(&self.0.fresh(), question).await? {
                ReplyBody::Listing { page, more } => (page, more),
                other => return Err(unexpected::<W>("", other)),
            };
            filter.limit = filter.limit.saturating_sub(page.len());
            filter.after = page.last().map(|summary| summary.id.clone());
            listed.append(&mut page);
            if !more || filter.limit == 0 || filter.after.is_none() {
                return Ok(listed);
            }
        }
    }
}

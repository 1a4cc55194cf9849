//! The lock of a partition.
//!
//! It is an exclusive queue, which only one connection can have, and which is deleted with it. Several consumers share
//! a connection. Among them the names of the held locks say whether a lock is taken.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection};
use partitura_broker::{Error, ErrorKind, Result};

use crate::client::{Connector, answer};
use crate::names;

/// A lock that this process holds.
#[derive(Debug)]
pub(crate) struct PartitionLock {
    connector: Arc<Connector>,
    connection: Arc<Connection>,
    name: String,
    held: HeldLocks,
}

/// The names of the locks that are held on one connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct HeldLocks(Arc<Mutex<HashSet<String>>>);

impl PartitionLock {
    /// Takes the lock of a queue. After an error the channel cannot be used any more.
    ///
    /// # Errors
    /// [`Busy`](ErrorKind::Busy) while another consumer has it.
    pub(crate) async fn take(
        connector: &Arc<Connector>,
        connection: Arc<Connection>,
        channel: &Channel,
        held: &HeldLocks,
        queue: &str,
    ) -> Result<Self> {
        let name = names::owner(queue);
        if !held.names().insert(name.clone()) {
            return Err(busy(queue));
        }
        // From here on, dropping the lock frees its name.
        let lock = Self { connector: connector.clone(), connection, name, held: held.clone() };
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("classic".into()));
        let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
        match answer(channel.queue_declare(lock.name.as_str().into(), options, arguments)).await {
            Ok(_) => Ok(lock),
            Err(error) => match connector.explain("consume", error) {
                error if error.kind() == ErrorKind::Busy => Err(busy(queue).because(error)),
                error => Err(error.of(queue)),
            },
        }
    }

    /// Gives the lock back. This fails only if the connection is gone, and the lock with it.
    pub(crate) async fn free(self) {
        if let Ok(channel) = self.connector.channel_on(&self.connection).await {
            let _ = answer(channel.queue_delete(self.name.as_str().into(), QueueDeleteOptions::default())).await;
        }
    }
}

impl Drop for PartitionLock {
    fn drop(&mut self) {
        self.held.names().remove(&self.name);
    }
}

impl HeldLocks {
    fn names(&self) -> MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The error of a partition that another consumer owns.
pub(crate) fn busy(queue: &str) -> Error {
    Error::new(ErrorKind::Busy, "consume", "another consumer owns this partition").of(queue)
}

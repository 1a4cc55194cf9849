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

/// The number of attempts to free a lock before its connection is closed.
const ATTEMPTS: usize = 2;

/// A lock that this process holds.
#[derive(Debug)]
pub(crate) struct PartitionLock {
    connector: Arc<Connector>,
    connection: Arc<Connection>,
    /// The channel that frees it. It is open from the start, since the connection may have no other later.
    freeing: Channel,
    name: String,
    held: HeldLocks,
}

/// The names of the locks that are held on one connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct HeldLocks(Arc<Held>);

#[derive(Debug, Default)]
struct Held {
    names: Mutex<HashSet<String>>,
    /// The channel that frees locks of a connection.
    freeing: tokio::sync::Mutex<Option<(Arc<Connection>, Channel)>>,
}

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
        let freeing = held.freeing(connector, &connection).await?;
        if !held.names().insert(name.clone()) {
            return Err(busy(queue));
        }
        // From here on, dropping the lock frees its name.
        let lock = Self { connector: connector.clone(), connection, freeing, name, held: held.clone() };
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("classic".into()));
        let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
        match answer(channel.queue_declare(lock.name.as_str().into(), options, arguments)).await {
            Ok(_) => Ok(lock),
            Err(error) => match connector.explain("consume", error) {
                error if error.kind() == ErrorKind::Busy => Err(busy(queue).because(error)),
                error => {
                    if error.kind() == ErrorKind::Timeout {
                        // The broker may still make the queue, which nobody would delete.
                        connector.abandon(&lock.connection, "a lock was not taken in time").await;
                    }
                    Err(error.of(queue))
                }
            },
        }
    }

    /// Gives the lock back. If the broker does not confirm it, closes the connection, which frees all locks on it:
    /// otherwise no process could ever take this one.
    pub(crate) async fn free(mut self) {
        for _ in 0..ATTEMPTS {
            if !self.connection.status().connected() {
                return;
            }
            let options = QueueDeleteOptions::default();
            match answer(self.freeing.queue_delete(self.name.as_str().into(), options)).await {
                Ok(_) => return,
                // The broker is stuck, or the channel is lost.
                Err(_) if self.freeing.status().connected() => break,
                Err(_) => match self.held.freeing(&self.connector, &self.connection).await {
                    Ok(channel) => self.freeing = channel,
                    Err(_) => break,
                },
            }
        }
        self.connector.abandon(&self.connection, "a lock could not be freed").await;
    }
}

impl Drop for PartitionLock {
    fn drop(&mut self) {
        self.held.names().remove(&self.name);
    }
}

impl HeldLocks {
    fn names(&self) -> MutexGuard<'_, HashSet<String>> {
        self.0.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The channel that frees locks of this connection.
    async fn freeing(&self, connector: &Connector, connection: &Arc<Connection>) -> Result<Channel> {
        let mut freeing = self.0.freeing.lock().await;
        match &*freeing {
            Some((of, channel)) if Arc::ptr_eq(of, connection) && channel.status().connected() => Ok(channel.clone()),
            _ => {
                let channel = connector.channel_on(connection).await?;
                *freeing = Some((connection.clone(), channel.clone()));
                Ok(channel)
            }
        }
    }
}

/// The error of a partition that another consumer owns.
pub(crate) fn busy(queue: &str) -> Error {
    Error::new(ErrorKind::Busy, "consume", "another consumer owns this partition").of(queue)
}

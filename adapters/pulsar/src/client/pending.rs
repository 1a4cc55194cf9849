use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use partitura_broker::{Error, Result};
use pulsar::Payload;
use pulsar::proto::{BaseCommand, CommandMessage};
use tokio::sync::{mpsc, oneshot};

use crate::error;

/// The input of one of several consumers that share a channel.
#[derive(Debug)]
pub(crate) struct ConsumerInput {
    /// The number of the consumer.
    pub(crate) number: usize,
    pub(crate) incoming: Incoming,
}

/// The input of a consumer.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// One entry of the log: a message, or a batch of them.
    Entry(CommandMessage, Box<Payload>),
    /// The broker closed the consumer, or the connection is gone.
    Lost,
}

/// The input of a producer.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The entry with this number is stored.
    Stored(u64),
    /// The entry with this number was refused.
    Refused(u64, Error),
    /// The broker closed the producer, or the connection is gone.
    Lost,
}

/// The callers that wait for something on one connection.
#[derive(Debug, Default)]
pub(super) struct Pending(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    closed: bool,
    requests: HashMap<u64, oneshot::Sender<Box<BaseCommand>>>,
    consumers: HashMap<u64, WaitingConsumer>,
    producers: HashMap<u64, mpsc::UnboundedSender<Outcome>>,
}

#[derive(Debug)]
struct WaitingConsumer {
    number: usize,
    to: mpsc::UnboundedSender<ConsumerInput>,
}

impl WaitingConsumer {
    fn tell(&self, incoming: Incoming) {
        let _ = self.to.send(ConsumerInput { number: self.number, incoming });
    }
}

impl Pending {
    pub(super) fn is_open(&self) -> bool {
        !self.waiting().closed
    }

    /// Tells all callers that the connection is gone.
    pub(super) fn close(&self) {
        let Waiting { requests, consumers, producers, .. } =
            std::mem::replace(&mut *self.waiting(), Waiting { closed: true, ..Waiting::default() });
        drop(requests);
        consumers.into_values().for_each(|consumer| consumer.tell(Incoming::Lost));
        for producer in producers.into_values() {
            let _ = producer.send(Outcome::Lost);
        }
    }

    pub(super) fn request(&self, operation: &'static str, id: u64) -> Result<oneshot::Receiver<Box<BaseCommand>>> {
        let (answer, waiting) = oneshot::channel();
        self.add(operation, |all| all.requests.insert(id, answer).is_none())?;
        Ok(waiting)
    }

    pub(super) fn consumer(
        &self,
        operation: &'static str,
        id: u64,
        number: usize,
        to: mpsc::UnboundedSender<ConsumerInput>,
    ) -> Result<()> {
        self.add(operation, |all| all.consumers.insert(id, WaitingConsumer { number, to }).is_none())
    }

    pub(super) fn producer(&self, operation: &'static str, id: u64, to: mpsc::UnboundedSender<Outcome>) -> Result<()> {
        self.add(operation, |all| all.producers.insert(id, to).is_none())
    }

    fn add(&self, operation: &'static str, insert: impl FnOnce(&mut Waiting) -> bool) -> Result<()> {
        let mut waiting = self.waiting();
        if waiting.closed {
            return Err(error::disconnected(operation));
        }
        let new = insert(&mut waiting);
        debug_assert!(new, "numbers are given out once");
        Ok(())
    }

    pub(super) fn remove(&self, id: u64) {
        let mut waiting = self.waiting();
        waiting.requests.remove(&id);
        waiting.consumers.remove(&id);
        waiting.producers.remove(&id);
    }

    /// Passes on an answer.
    pub(super) fn answer(&self, id: u64, command: Box<BaseCommand>) {
        // The caller may have stopped waiting.
        if let Some(request) = self.waiting().requests.remove(&id) {
            let _ = request.send(command);
        }
    }

    pub(super) fn tell_consumer(&self, id: u64, incoming: Incoming) {
        if let Some(consumer) = self.waiting().consumers.get(&id) {
            consumer.tell(incoming);
        }
    }

    pub(super) fn tell_producer(&self, id: u64, outcome: Outcome) {
        if let Some(producer) = self.waiting().producers.get(&id) {
            let _ = producer.send(outcome);
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

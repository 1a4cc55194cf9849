//! The requests to the writer.

use std::sync::Arc;

use partitura_broker::{AckToken, Error, ErrorKind, Message, Partition, Put, Result, Space, Topology, Unit};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::delay::Cancellation;
use crate::topics::TopicEntry;
use crate::wire;

/// One call, and the receiver of its answer.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) work: Work,
    pub(crate) answer: Answer,
    /// The permit that bounds the work under way, also if no caller waits for the answer any more.
    pub(crate) _permits: Vec<OwnedSemaphorePermit>,
}

#[derive(Debug)]
pub(crate) enum Work {
    Publish(Vec<Prepared>),
    /// A message that was refused already is an error, and keeps its place among the results.
    Commit(Vec<Result<PreparedUnit>>),
    Declare(Topology),
    Cancel(Vec<Cancellation>),
    /// It is answered when all requests before it are written.
    Flush,
}

#[derive(Debug)]
pub(crate) enum Answer {
    One(oneshot::Sender<Result<()>>),
    Each(oneshot::Sender<Vec<Result<()>>>),
    Cancelled(oneshot::Sender<Result<Vec<bool>>>),
}

/// The content of an answer.
#[derive(Debug)]
pub(crate) enum Done {
    One(Result<()>),
    Each(Vec<Result<()>>),
    Cancelled(Result<Vec<bool>>),
}

impl Request {
    /// A request that is answered as a whole.
    pub(crate) fn one(work: Work, permits: Vec<OwnedSemaphorePermit>) -> (Self, oneshot::Receiver<Result<()>>) {
        let (answer, receiver) = oneshot::channel();
        (Self { work, answer: Answer::One(answer), _permits: permits }, receiver)
    }

    /// A request that is answered unit by unit.
    pub(crate) fn each(work: Work, permits: Vec<OwnedSemaphorePermit>) -> (Self, oneshot::Receiver<Vec<Result<()>>>) {
        let (answer, receiver) = oneshot::channel();
        (Self { work, answer: Answer::Each(answer), _permits: permits }, receiver)
    }

    /// Takes back delayed messages.
    pub(crate) fn cancel(
        cancellations: Vec<Cancellation>,
        permits: Vec<OwnedSemaphorePermit>,
    ) -> (Self, oneshot::Receiver<Result<Vec<bool>>>) {
        let (answer, receiver) = oneshot::channel();
        (Self { work: Work::Cancel(cancellations), answer: Answer::Cancelled(answer), _permits: permits }, receiver)
    }
}

impl Answer {
    /// The caller may be gone.
    pub(crate) fn give(self, done: Done) {
        match (self, done) {
            (Self::One(answer), Done::One(result)) => drop(answer.send(result)),
            (Self::Each(answer), Done::Each(results)) => drop(answer.send(results)),
            (Self::One(answer), Done::Each(results)) => drop(answer.send(results.into_iter().collect())),
            (Self::Each(answer), Done::One(result)) => drop(answer.send(vec![result])),
            (Self::Cancelled(answer), Done::Cancelled(result)) => drop(answer.send(result)),
            // Such a combination is never made. A waiting caller learns that there is no answer.
            (Self::Cancelled(_), _) | (_, Done::Cancelled(_)) => {}
        }
    }
}

/// A checked message, with all work done that does not need the writer.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) topic: Arc<TopicEntry>,
    pub(crate) partition: Partition,
    pub(crate) message: Message,
    /// Its stored form; empty if there is no subscription, since then it is not stored.
    pub(crate) body: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct PreparedUnit {
    pub(crate) settle: Vec<AckToken>,
    pub(crate) publish: Vec<Prepared>,
    pub(crate) put: Vec<Put>,
}

impl Prepared {
    pub(crate) fn new(topic: Arc<TopicEntry>, partition: Partition, message: Message) -> Self {
        let body = if topic.routes.is_empty() { Vec::new() } else { wire::encode(&message) };
        Self { topic, partition, message, body }
    }

    pub(crate) fn is_stored(&self) -> bool {
        !self.topic.routes.is_empty()
    }
}

impl PreparedUnit {
    /// Makes the checks that need no storage.
    pub(crate) fn new(unit: Unit, mut publish: impl FnMut(Message) -> Result<Prepared>) -> Result<Self> {
        check_keys(&unit.put)?;
        let publish = unit.publish.into_iter().map(&mut publish).collect::<Result<_>>()?;
        Ok(Self { settle: unit.settle, publish, put: unit.put })
    }

    /// Whether it changes anything in the storage.
    pub(crate) fn is_stored(&self) -> bool {
        !self.settle.is_empty() || !self.put.is_empty() || self.publish.iter().any(Prepared::is_stored)
    }
}

fn check_keys(puts: &[Put]) -> Result<()> {
    let mut keys: Vec<_> = puts.iter().map(|put| (put.space, &put.key)).collect();
    keys.sort_unstable();
    match keys.windows(2).find(|pair| pair[0] == pair[1]) {
        None => Ok(()),
        Some(pair) => {
            let message = "a key occurs twice in one unit; give its last value only";
            let error = Error::new(ErrorKind::InvalidArgument, "commit", message);
            Err(error.of(format_args!("{}/{}", pair[0].0, pair[0].1.escape_ascii())))
        }
    }
}

impl Work {
    /// Whether it needs a transaction of the storage.
    pub(crate) fn is_stored(&self) -> bool {
        match self {
            Self::Publish(messages) => messages.iter().any(Prepared::is_stored),
            Self::Commit(units) => units.iter().flatten().any(PreparedUnit::is_stored),
            Self::Cancel(cancellations) => {
                cancellations.iter().any(|cancellation| !cancellation.topic.routes.is_empty())
            }
            Self::Declare(_) => true,
            Self::Flush => false,
        }
    }

    /// The spaces that it writes.
    pub(crate) fn spaces(&self) -> impl Iterator<Item = Space> {
        let units = if let Self::Commit(units) = self { &units[..] } else { &[] };
        units.iter().flatten().flat_map(|unit| &unit.put).map(|put| put.space)
    }

    /// The same failure for all of it.
    pub(crate) fn failed(&self, error: &Error) -> Done {
        match self {
            Self::Commit(units) => Done::Each(units.iter().map(|_| Err(error.duplicate())).collect()),
            Self::Cancel(_) => Done::Cancelled(Err(error.duplicate())),
            Self::Publish(_) | Self::Declare(_) | Self::Flush => Done::One(Err(error.duplicate())),
        }
    }
}

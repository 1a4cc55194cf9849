use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{HeaderMap, Subject};
use async_trait::async_trait;
use bytes::Bytes;
use partitura_broker::{
    Clock, Delayed, Error, ErrorKind, InboxAddress, Message, Partition, Producer, ProducerOptions, Receipt, Result,
    Timestamp, TopicName, telemetry,
};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, timeout_at};
use tracing::Instrument;

use crate::client::Connection;
use crate::confirms::{Answer, Confirm};
use crate::core::{Core, SYSTEM};
use crate::topics::KnownTopic;
use crate::{delay, error, inbox, names, wire};

const PUBLISH: &str = "publish";

/// Publishes to JetStream: many messages under way, one connection, in order.
///
/// The messages that are written to one connection are stored in that order, up to one message from which on none is
/// stored: a lost connection leaves no gap. A cluster may refuse one message and take the next. There a message waits
/// for the confirm of the earlier one of its key.
pub(crate) struct NatsProducer {
    core: Arc<Core>,
    /// Held while a batch is sent, also across awaits, so that batches are sent in the order in which they were first
    /// polled.
    turn: Mutex<()>,
    window: Arc<Semaphore>,
    confirm_within: Duration,
}

/// A topic and a key, of which the messages keep their order.
type Lane<'a> = (&'a TopicName, &'a Bytes);

/// The lane of a message. `None`: it has no key, and no order to keep.
fn lane(message: &Message) -> Option<Lane<'_>> {
    message.key.as_ref().map(|key| (&message.topic, key))
}

/// A message that waits for its confirm.
struct Sent {
    /// Its place in the batch.
    at: usize,
    partition: Partition,
    confirm: Confirm,
    deadline: Instant,
}

impl NatsProducer {
    pub(crate) fn new(core: Arc<Core>, options: &ProducerOptions) -> Self {
        let window = options.window.get().min(Semaphore::MAX_PERMITS);
        let (turn, window) = (Mutex::new(()), Arc::new(Semaphore::new(window)));
        Self { core, turn, window, confirm_within: options.confirm_within }
    }

    async fn publish_all(&self, batch: &[Message]) -> Vec<Result<Receipt>> {
        let now = self.core.clock.now();
        let check = |message: &Message| self.core.capabilities.check(message, now).err();
        let mut batch = Batch::new(batch, batch.iter().map(check));
        let sent = {
            let _turn = self.turn.lock().await;
            match self.core.publishing.connection(PUBLISH).await {
                Ok(connection) => self.send(&connection, &mut batch, now).await,
                Err(error) => {
                    batch.fail_the_rest(&error);
                    Vec::new()
                }
            }
        };
        for sent in sent {
            self.confirmed(&mut batch, sent).await;
        }
        batch.into_results()
    }

    /// Sends the messages that are not refused, until the connection is lost.
    async fn send(&self, connection: &Connection, batch: &mut Batch<'_>, now: Timestamp) -> Vec<Sent> {
        let mut all: Vec<Sent> = Vec::with_capacity(batch.messages.len());
        // The message of each lane that is not confirmed yet.
        let mut last: HashMap<Lane<'_>, Sent> = HashMap::new();
        let one_by_one = connection.info.cluster.is_some();
        let mut known: Option<Arc<KnownTopic>> = None;
        for (at, message) in batch.messages.iter().enumerate() {
            if batch.is_decided(at) {
                continue;
            }
            if let Some(before) = lane(message).filter(|_| one_by_one).and_then(|lane| last.remove(&lane)) {
                self.confirmed(batch, before).await;
            }
            if batch.fail_behind(at) {
                continue;
            }
            // Most batches have one topic.
            let topic = known.take().filter(|known| known.topic.name == message.topic);
            let found = match topic {
                Some(topic) => Ok(topic),
                None => self.core.topics.get(connection, PUBLISH, &message.topic).await,
            };
            let sent = match found {
                Ok(topic) => self.send_one(connection, known.insert(topic), message, at, now).await,
                Err(error) => Err(error),
            };
            match sent {
                Ok(sent) => match lane(message).filter(|_| one_by_one) {
                    Some(lane) => drop(last.insert(lane, sent)),
                    None => all.push(sent),
                },
                Err(error) if error.kind() == ErrorKind::Disconnected => {
                    batch.fail_the_rest(&error);
                    break;
                }
                Err(error) => batch.decide(at, Err(error)),
            }
        }
        all.extend(last.into_values());
        all
    }

    async fn send_one(
        &self,
        connection: &Connection,
        known: &KnownTopic,
        message: &Message,
        at: usize,
        now: Timestamp,
    ) -> Result<Sent> {
        let lost = || error::disconnected(PUBLISH).of(&message.topic);
        let window = self.window.clone().acquire_owned().await.map_err(|e| error::closed(PUBLISH).because(e))?;
        let (reply, confirm) = connection.confirms().await?.expect(window).ok_or_else(lost)?;
        let partition = known.partition(message.key.as_ref(), &message.id);
        let Addressed { subject, headers } = Addressed::new(known, partition, message, now);
        let deadline = Instant::now() + self.confirm_within;
        let published =
            connection.client.publish_with_reply_and_headers(subject, reply, headers, message.payload.clone()).await;
        published.map_err(|error| lost().because(error))?;
        Ok(Sent { at, partition, confirm, deadline })
    }

    /// Waits for the confirm of a message, and records its result.
    async fn confirmed(&self, batch: &mut Batch<'_>, mut sent: Sent) {
        let messages = batch.messages;
        let topic = &messages[sent.at].topic;
        let unknown = |message| Error::new(ErrorKind::OutcomeUnknown, PUBLISH, message).of(topic);
        let result = match timeout_at(sent.deadline, sent.confirm.answer()).await {
            Ok(Some(Answer::Stored)) => Ok(Receipt { partition: sent.partition }),
            Ok(Some(Answer::Refused(error))) => Err(error::refused(PUBLISH, topic, error)),
            Ok(Some(Answer::NoStream)) => Err(self.without_stream(topic).await),
            Ok(None) => Err(unknown("the connection was lost before the confirm; publish it again with the same id")),
            Err(_) => Err(unknown("no confirm came in time; publish it again with the same id")),
        };
        batch.decide(sent.at, result);
    }

    /// Finds out why no stream took a message of this topic: the stream is gone, or has no leader at the moment.
    async fn without_stream(&self, topic: &TopicName) -> Error {
        self.core.topics.forget(topic);
        let find = async {
            let connection = self.core.publishing.connection(PUBLISH).await?;
            self.core.topics.get(&connection, PUBLISH, topic).await
        };
        match find.await {
            Ok(_) => Error::new(ErrorKind::Disconnected, PUBLISH, "no server takes it at the moment").of(topic),
            Err(error) => error,
        }
    }
}

/// The subject and the headers with which a message is published: to its partition, or to wait until it is almost due.
struct Addressed {
    subject: Subject,
    headers: HeaderMap,
}

impl Addressed {
    fn new(known: &KnownTopic, partition: Partition, message: &Message, now: Timestamp) -> Self {
        let target = &known.subjects[partition.0 as usize];
        let mut headers = wire::headers(message);
        match message.not_before.filter(|due| due.since(now) > delay::LEAD) {
            None => Self { subject: target.clone(), headers },
            Some(due) => {
                delay::hold_back(&mut headers, due, target);
                Self { subject: names::schedule(target, &message.id).into(), headers }
            }
        }
    }
}

/// A batch, and the results of its messages.
struct Batch<'a> {
    messages: &'a [Message],
    results: Vec<Option<Result<Receipt>>>,
    /// Lanes in which a message failed and may be published again. Later messages must not overtake it.
    stopped: HashSet<Lane<'a>>,
}

impl<'a> Batch<'a> {
    fn new(messages: &'a [Message], refused: impl Iterator<Item = Option<Error>>) -> Self {
        let results = refused.map(|error| error.map(Err)).collect();
        Self { messages, results, stopped: HashSet::new() }
    }

    fn is_decided(&self, at: usize) -> bool {
        self.results[at].is_some()
    }

    fn decide(&mut self, at: usize, result: Result<Receipt>) {
        if result.as_ref().is_err_and(Error::is_retryable) {
            self.stopped.extend(lane(&self.messages[at]));
        }
        self.results[at] = Some(result);
    }

    /// Fails the message, if an earlier one of its key failed. Returns whether it did.
    fn fail_behind(&mut self, at: usize) -> bool {
        let behind = lane(&self.messages[at]).is_some_and(|lane| self.stopped.contains(&lane));
        if behind {
            self.results[at] = Some(Err(overtaking(&self.messages[at])));
        }
        behind
    }

    fn fail_the_rest(&mut self, error: &Error) {
        for (message, result) in self.messages.iter().zip(&mut self.results).filter(|(_, result)| result.is_none()) {
            *result = Some(Err(error.duplicate().of(&message.topic)));
        }
    }

    fn into_results(mut self) -> Vec<Result<Receipt>> {
        // A message that was sent behind one that failed later may be stored. It has to be published again, too, behind
        // that one.
        self.stopped.clear();
        for at in 0..self.messages.len() {
            match self.results[at].take() {
                Some(Err(error)) if !error.is_retryable() => self.results[at] = Some(Err(error)),
                Some(Ok(_)) if self.fail_behind(at) => {}
                Some(result) => self.decide(at, result),
                None => self.decide(at, Err(error::disconnected(PUBLISH))),
            }
        }
        self.results.into_iter().flatten().collect()
    }
}

/// The error of a message that must not overtake an earlier one.
fn overtaking(message: &Message) -> Error {
    let text = "an earlier message of its key failed; publish both again, in order and with the same ids";
    Error::new(ErrorKind::OutcomeUnknown, PUBLISH, text).of(&message.topic)
}

#[async_trait]
impl Producer for NatsProducer {
    async fn publish(&self, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        let span = telemetry::publish_span(SYSTEM, batch.len());
        self.publish_all(&batch).instrument(span).await
    }

    async fn cancel(&self, delayed: Vec<Delayed>) -> Vec<Result<bool>> {
        delay::cancel(&self.core, delayed).await
    }

    async fn reply(&self, replies: Vec<(InboxAddress, Message)>) -> Result<()> {
        let connection = self.core.publishing.connection("reply").await?;
        for (address, message) in replies {
            inbox::reply(&connection, &address, message).await?;
        }
        Ok(())
    }
}

impl fmt::Debug for NatsProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsProducer").field("window", &self.window.available_permits()).finish_non_exhaustive()
    }
}

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use partitura_broker::{
    Error, ErrorKind, InboxAddress, Message, Partition, Producer, ProducerOptions, Receipt, Result, TopicName,
    partition_of, telemetry,
};
use rdkafka::error::RDKafkaErrorCode;
use tokio::sync::{Mutex as Turns, Notify, OwnedSemaphorePermit, Semaphore};
use tracing::Instrument;

use crate::core::{Core, SYSTEM};
use crate::record::{Confirm, Record};
use crate::route::Route;
use crate::{error, inbox, wire};

/// The pause before another attempt while the queue of librdkafka is full.
const FULL: Duration = Duration::from_millis(2);
/// The largest part of the window that a caller waits for at once, and the least number of such parts. A caller is
/// woken once for each part.
const PART: usize = 100;
const PARTS: usize = 8;

/// Publishes through the one librdkafka producer of the connection.
pub(crate) struct KafkaProducer {
    core: Arc<Core>,
    options: ProducerOptions,
    /// Held while a batch is queued. So batches do not mix, and their order is that of the first polls.
    turns: Turns<()>,
    window: Arc<Semaphore>,
    keyless: AtomicUsize,
}

impl KafkaProducer {
    pub(crate) fn new(core: Arc<Core>, options: ProducerOptions) -> Self {
        let window = Arc::new(Semaphore::new(options.window.get().min(Semaphore::MAX_PERMITS)));
        Self { core, options, turns: Turns::new(()), window, keyless: AtomicUsize::new(0) }
    }

    /// Queues the batch in order. Results are put into `pending` as they come.
    async fn queue(&self, batch: &[Message], pending: &Arc<Pending>) {
        let _turn = self.turns.lock().await;
        // Keys of messages that failed and may be published again. No later message of such a key may overtake
        // them.
        let mut held: HashSet<(&TopicName, &Bytes)> = HashSet::new();
        // Places in the window that are reserved for this batch.
        let mut places = None;
        for (at, message) in batch.iter().enumerate() {
            let key = message.key.as_ref().map(|key| (&message.topic, key));
            let result = if key.as_ref().is_some_and(|key| held.contains(key)) {
                let text = "an earlier message of this key failed; publish both again, in order";
                Err(Error::new(ErrorKind::OutcomeUnknown, "publish", text).of(&message.topic))
            } else {
                self.send(message, at, batch.len() - at, &mut places, pending).await
            };
            if let Err(error) = result {
                if error.is_retryable() {
                    held.extend(key);
                }
                pending.finish(at, Err(error));
            }
        }
    }

    /// Queues one message. `left` is the number of messages that its batch still has, including this one.
    async fn send(
        &self,
        message: &Message,
        at: usize,
        left: usize,
        places: &mut Option<OwnedSemaphorePermit>,
        pending: &Arc<Pending>,
    ) -> Result<()> {
        let now = self.core.now();
        self.core.capabilities.check(message, now)?;
        let route = match self.core.topics.known_route(&message.topic) {
            Some(route) => route,
            None => self.look_up(&message.topic).await?,
        };
        let place = match places.as_mut().and_then(|places| places.split(1)) {
            Some(place) => place,
            None => self.place(left, places).await?,
        };
        let partition = self.partition(message, &route);
        let receipt = Receipt { partition: if route.shared { Partition(0) } else { Partition(partition) } };
        let pending = pending.clone();
        let confirmed: Confirm = Box::new(move |result| {
            drop(place);
            pending.finish(at, result.map(|()| receipt).map_err(error::unconfirmed));
        });
        let delayed = message.not_before.is_some_and(|due| due > now);
        let payload = Some(&message.payload[..]);
        let waits = delayed.then(|| wire::delayed_key(message));
        let record = if let Some(key) = &waits {
            let (topic, key) = (route.timers.as_str(), Some(key.as_bytes()));
            Record { topic, partition, key, payload, headers: wire::delayed_headers(message) }
        } else {
            let (topic, key) = (message.topic.as_str(), message.key.as_deref());
            Record { topic, partition, key, payload, headers: wire::headers(message) }
        };
        self.put(record, confirmed).await.map_err(|error| error.of(&message.topic))
    }

    async fn look_up(&self, topic: &TopicName) -> Result<Arc<Route>> {
        tokio::time::timeout(self.options.confirm_within, self.core.topics.route(topic))
            .await
            .map_err(|_| Error::new(ErrorKind::Timeout, "publish", "the topic could not be looked up in time"))
            .and_then(|route| route)
            .map_err(|error| error.of(topic))
    }

    /// Waits for a place in the window, and reserves places for the next messages of the batch.
    async fn place(&self, left: usize, places: &mut Option<OwnedSemaphorePermit>) -> Result<OwnedSemaphorePermit> {
        let part = left.min(PART).min(self.options.window.get().div_ceil(PARTS));
        let part = u32::try_from(part).unwrap_or(1);
        let taken = self.window.clone().acquire_many_owned(part).await.map_err(|_| error::closed("publish"))?;
        places.insert(taken).split(1).ok_or_else(|| error::closed("publish"))
    }

    /// Gives a record to librdkafka. Tries again while its queue is full.
    async fn put(&self, mut record: Record<'_>, mut confirm: Confirm) -> Result<()> {
        let began = std::time::Instant::now();
        loop {
            let Record { topic, partition, key, payload, .. } = record;
            match self.core.client.producer()?.send(record, confirm) {
                Ok(()) => return Ok(()),
                Err(refused)
                    if refused.code == RDKafkaErrorCode::QueueFull && began.elapsed() < self.options.confirm_within =>
                {
                    confirm = refused.confirm;
                    record = Record { topic, partition, key, payload, headers: refused.headers };
                    tokio::time::sleep(FULL).await;
                }
                Err(refused) => return Err(error::refused("publish", refused.code)),
            }
        }
    }

    fn partition(&self, message: &Message, route: &Route) -> u32 {
        match &message.key {
            Some(key) => partition_of(key, route.partitions).0,
            None => self.keyless.fetch_add(1, Ordering::Relaxed) as u32 % route.partitions.max(1),
        }
    }
}

#[async_trait]
impl Producer for KafkaProducer {
    async fn publish(&self, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        if self.core.is_closed() {
            return batch.iter().map(|_| Err(error::closed("publish"))).collect();
        }
        let pending = Arc::new(Pending::new(batch.len()));
        async {
            self.queue(&batch, &pending).await;
            // A message without a result by the end of this time has an unknown outcome.
            let _in_time = tokio::time::timeout(self.options.confirm_within, pending.done()).await;
        }
        .instrument(telemetry::publish_span(SYSTEM, batch.len()))
        .await;
        pending.results(&batch)
    }

    async fn reply(&self, replies: Vec<(InboxAddress, Message)>) -> Result<()> {
        if self.core.is_closed() {
            return Err(error::closed("reply"));
        }
        let producer = self.core.client.producer()?;
        for (address, message) in replies {
            inbox::reply(&producer, &address, &message)?;
        }
        Ok(())
    }
}

impl fmt::Debug for KafkaProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaProducer").field("options", &self.options).finish_non_exhaustive()
    }
}

/// The results of a batch, as they come.
struct Pending {
    results: Mutex<Vec<Option<Result<Receipt>>>>,
    left: AtomicUsize,
    all: Notify,
}

impl Pending {
    fn new(count: usize) -> Self {
        Self {
            results: Mutex::new((0..count).map(|_| None).collect()),
            left: AtomicUsize::new(count),
            all: Notify::new(),
        }
    }

    fn finish(&self, at: usize, result: Result<Receipt>) {
        if let Some(place) = self.results.lock().unwrap_or_else(PoisonError::into_inner).get_mut(at) {
            *place = Some(result);
        }
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.all.notify_one();
        }
    }

    async fn done(&self) {
        while self.left.load(Ordering::Acquire) > 0 {
            self.all.notified().await;
        }
    }

    /// One result for each message. If a message failed and may be published again, so must all later messages of
    /// its key.
    fn results(&self, batch: &[Message]) -> Vec<Result<Receipt>> {
        let mut results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        let mut held: HashSet<(&TopicName, &Bytes)> = HashSet::new();
        let failed =
            |message: &Message, text: &str| Error::new(ErrorKind::OutcomeUnknown, "publish", text).of(&message.topic);
        let each = batch.iter().zip(results.iter_mut()).map(|(message, result)| {
            let key = message.key.as_ref().map(|key| (&message.topic, key));
            let mut result = result.take().unwrap_or_else(|| Err(failed(message, "not confirmed in time")));
            if result.is_ok() && key.as_ref().is_some_and(|key| held.contains(key)) {
                result = Err(failed(message, "an earlier message of this key is unconfirmed"));
            }
            if result.as_ref().is_err_and(Error::is_retryable) {
                held.extend(key);
            }
            result
        });
        each.collect()
    }
}

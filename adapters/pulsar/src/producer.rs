//! Publishing: one task for each producer takes batches in the order of their calls, finds the route of each message,
//! and queues the messages with the [publisher](crate::publisher).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use partitura_broker::{
    Clock, InboxAddress, Message, Ordering, Partition, Producer, ProducerOptions, Receipt, Result, Timestamp, Topic,
    partition_of, telemetry,
};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tracing::Instrument;

use crate::core::{Core, SYSTEM};
use crate::delay;
use crate::publish_call::{PublishCall, unknown};
use crate::publisher::{Item, Route};
use crate::wire::Outbound;

const OPERATION: &str = "publish";

/// A message to publish.
#[derive(Debug)]
pub(crate) struct Publication {
    pub(crate) message: Message,
    /// Whether it may have been published before, by a forwarder.
    pub(crate) is_repeated: bool,
}

/// Publishes. See [`Producer`] for what it promises.
#[derive(Debug)]
pub(crate) struct PulsarProducer {
    core: Arc<Core>,
    /// Bounded by the callers: each waits for its own batch.
    batches: mpsc::UnboundedSender<QueuedBatch>,
    window: Arc<Semaphore>,
    confirm_within: Duration,
    sequencer: AbortHandle,
}

/// A batch to be sent.
#[derive(Debug)]
struct QueuedBatch {
    messages: Vec<Publication>,
    call: Arc<PublishCall>,
    /// Told when all of it is queued with the publisher.
    passed_on: oneshot::Sender<()>,
}

impl PulsarProducer {
    pub(crate) fn new(core: Arc<Core>, options: &ProducerOptions) -> Self {
        let size = options.window.get().min(Semaphore::MAX_PERMITS);
        let window = Arc::new(Semaphore::new(size));
        let (batches, received) = mpsc::unbounded_channel();
        let sequencer = Sequencer { core: core.clone(), window: window.clone(), size, batches: received };
        let sequencer = tokio::spawn(sequencer.run()).abort_handle();
        Self { core, batches, window, confirm_within: options.confirm_within, sequencer }
    }

    /// Queues a batch at once, and waits for its outcomes. As [`Producer::publish`].
    pub(crate) async fn send(&self, batch: Vec<Publication>) -> Vec<Result<Receipt>> {
        if batch.is_empty() {
            return Vec::new();
        }
        let (call, done) = PublishCall::new(batch.len(), self.window.clone());
        let (passed_on, all_queued) = oneshot::channel();
        let _ = self.batches.send(QueuedBatch { messages: batch, call: call.clone(), passed_on });
        if all_queued.await.is_ok() {
            let _ = timeout(self.confirm_within, done).await;
        }
        call.finish(|| unknown(&format!("not confirmed within {:?}", self.confirm_within)))
    }
}

#[async_trait]
impl Producer for PulsarProducer {
    async fn publish(&self, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        let span = telemetry::publish_span(SYSTEM, batch.len());
        let publication = |message| Publication { message, is_repeated: false };
        self.send(batch.into_iter().map(publication).collect()).instrument(span).await
    }

    async fn reply(&self, replies: Vec<(InboxAddress, Message)>) -> Result<()> {
        self.core.cluster.check("reply")?;
        let (call, _) = PublishCall::new(replies.len(), self.window.clone());
        for (index, (address, message)) in replies.into_iter().enumerate() {
            let Some(topic) = self.core.topics.namespace().inbox_at(address.as_str()) else { continue };
            let Ok(permit) = self.window.try_acquire() else {
                // Replies are sent at most once, and dropped if there is no room.
                tracing::debug!("dropping a reply: too many messages are unconfirmed");
                continue;
            };
            permit.forget();
            let item = Item { message: Outbound::new(message), promise: call.promise(index) };
            self.core.publisher.push(&Route { topic, partition: Partition(0), batched: false }, vec![item]);
        }
        Ok(())
    }
}

impl Drop for PulsarProducer {
    fn drop(&mut self) {
        self.sequencer.abort();
    }
}

struct Sequencer {
    core: Arc<Core>,
    window: Arc<Semaphore>,
    size: usize,
    batches: mpsc::UnboundedReceiver<QueuedBatch>,
}

impl Sequencer {
    async fn run(mut self) {
        while let Some(QueuedBatch { messages, call, passed_on }) = self.batches.recv().await {
            let mut messages = messages.into_iter().enumerate();
            loop {
                // A batch larger than the window passes in parts.
                let part: Vec<_> = messages.by_ref().take(self.size).collect();
                if part.is_empty() {
                    break;
                }
                let permits = u32::try_from(part.len()).unwrap_or(u32::MAX);
                match self.window.acquire_many(permits).await {
                    Ok(permits) => permits.forget(),
                    Err(_) => return,
                }
                self.pass_on(&call, part).await;
            }
            let _ = passed_on.send(());
        }
    }

    /// Queues messages with the publisher, those of each route in their order.
    async fn pass_on(&self, call: &Arc<PublishCall>, part: Vec<(usize, Publication)>) {
        let mut routes: HashMap<Route, Vec<Item>> = HashMap::new();
        let now = self.core.clock.now();
        for (index, publication) in part {
            let promise = call.promise(index);
            match self.prepare(publication, now).await {
                Ok((route, message)) => routes.entry(route).or_default().push(Item { message, promise }),
                Err(error) => promise.refused(error),
            }
        }
        for (route, items) in routes {
            self.core.publisher.push(&route, items);
        }
    }

    async fn prepare(&self, publication: Publication, now: Timestamp) -> Result<(Route, Outbound)> {
        let Publication { message, is_repeated } = publication;
        self.core.cluster.check(OPERATION)?;
        self.core.capabilities.check(&message, now)?;
        let topic = match self.core.topics.known(&message.topic) {
            Some(topic) => topic,
            None => self.core.topics.find(OPERATION, &message.topic).await?,
        };
        let partition = partition_for(&topic, &message);
        let namespace = self.core.topics.namespace();
        match message.not_before {
            Some(due) if due > now => {
                let timers = namespace.timers(&topic.name).partition(Partition(0));
                let message = delay::timer(message, due, now).repeated(is_repeated);
                Ok((Route { topic: timers, partition, batched: false }, message))
            }
            _ => {
                // Consumers of a shared topic compete for single messages.
                let batched = self.core.settles_by_index && topic.ordering != Ordering::Shared;
                let topic = namespace.topic(&topic.name).partition(partition);
                Ok((Route { topic, partition, batched }, Outbound::new(message).repeated(is_repeated)))
            }
        }
    }
}

/// The partition of a message, by its key. Without a key its id decides, so that it goes to the same partition when it
/// is published again.
pub(crate) fn partition_for(topic: &Topic, message: &Message) -> Partition {
    match topic.ordering {
        Ordering::Shared => Partition(0),
        Ordering::ByKey { partitions } => {
            partition_of(message.key.as_deref().unwrap_or(message.id.as_str().as_bytes()), partitions)
        }
    }
}

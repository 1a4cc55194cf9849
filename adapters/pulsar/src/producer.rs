//! Publishing: one task for each producer takes up batches in the order in which they were given, finds the way of each
//! message, and passes them on to the [lanes](crate::lanes).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use partitura_broker::{
    Clock, Error, InboxAddress, Message, Ordering, Partition, Producer, ProducerOptions, Receipt, Result, Timestamp,
    Topic, partition_of, telemetry,
};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tracing::Instrument;

use crate::core::{Core, SYSTEM};
use crate::delay;
use crate::error;
use crate::job::{Job, unknown};
use crate::lanes::{Item, Route};
use crate::wire::Outbound;

const OPERATION: &str = "publish";

/// Publishes. See [`Producer`] for what it promises.
#[derive(Debug)]
pub(crate) struct PulsarProducer {
    core: Arc<Core>,
    /// Unbounded, and yet bounded: each entry is a batch whose caller waits.
    orders: mpsc::UnboundedSender<Order>,
    window: Arc<Semaphore>,
    confirm_within: Duration,
    sequencer: AbortHandle,
}

/// A batch to be sent.
#[derive(Debug)]
struct Order {
    batch: Vec<Message>,
    job: Arc<Job>,
    /// All of it is on its way.
    handed: oneshot::Sender<()>,
}

impl PulsarProducer {
    pub(crate) fn new(core: Arc<Core>, options: &ProducerOptions) -> Self {
        let size = options.window.get().min(Semaphore::MAX_PERMITS);
        let window = Arc::new(Semaphore::new(size));
        let (orders, received) = mpsc::unbounded_channel();
        let sequencer = Sequencer { core: core.clone(), window: window.clone(), size, orders: received };
        let sequencer = tokio::spawn(sequencer.run()).abort_handle();
        Self { core, orders, window, confirm_within: options.confirm_within, sequencer }
    }

    /// Queues a batch at once, and waits for what comes of it.
    async fn send(&self, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        if batch.is_empty() {
            return Vec::new();
        }
        let (job, done) = Job::new(batch.len(), self.window.clone());
        let (handed, on_its_way) = oneshot::channel();
        let _ = self.orders.send(Order { batch, job: job.clone(), handed });
        if on_its_way.await.is_ok() {
            let _ = timeout(self.confirm_within, done).await;
        }
        job.finish(|| unknown(&format!("not confirmed within {:?}", self.confirm_within)))
    }
}

#[async_trait]
impl Producer for PulsarProducer {
    async fn publish(&self, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        let span = telemetry::publish_span(SYSTEM, batch.len());
        self.send(batch).instrument(span).await
    }

    async fn reply(&self, replies: Vec<(InboxAddress, Message)>) -> Result<()> {
        self.core.cluster.check("reply")?;
        let (job, _) = Job::new(replies.len(), self.window.clone());
        for (index, (address, message)) in replies.into_iter().enumerate() {
            let Some(topic) = self.core.catalog.namespace().inbox_at(address.as_str()) else { continue };
            let Ok(permit) = self.window.try_acquire() else {
                // At most once: what there is no room for is not sent.
                tracing::debug!("a reply was dropped, since too much is on its way");
                continue;
            };
            permit.forget();
            let item = Item { message: Outbound::new(message), pledge: job.pledge(index) };
            self.core.lanes.push(&Route { topic, partition: Partition(0), batched: false }, vec![item]);
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
    orders: mpsc::UnboundedReceiver<Order>,
}

impl Sequencer {
    async fn run(mut self) {
        while let Some(Order { batch, job, handed }) = self.orders.recv().await {
            let mut messages = batch.into_iter().enumerate();
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
                self.pass_on(&job, part).await;
            }
            let _ = handed.send(());
        }
    }

    /// Sorts messages by their ways, each way keeping their order.
    async fn pass_on(&self, job: &Arc<Job>, part: Vec<(usize, Message)>) {
        let mut ways: HashMap<Route, Vec<Item>> = HashMap::new();
        let now = self.core.clock.now();
        for (index, message) in part {
            let pledge = job.pledge(index);
            match self.prepare(message, now).await {
                Ok((route, message)) => ways.entry(route).or_default().push(Item { message, pledge }),
                Err(error) => pledge.refused(error),
            }
        }
        for (route, items) in ways {
            self.core.lanes.push(&route, items);
        }
    }

    async fn prepare(&self, message: Message, now: Timestamp) -> Result<(Route, Outbound)> {
        self.core.cluster.check(OPERATION)?;
        self.core.capabilities.check(&message, now)?;
        let topic = match self.core.catalog.known(&message.topic) {
            Some(topic) => topic,
            None => self.core.catalog.find(OPERATION, &message.topic).await?,
        };
        let partition = partition(&topic, &message);
        let namespace = self.core.catalog.namespace();
        match message.not_before {
            Some(due) if due > now => {
                let timers = namespace.timers(&topic.name).partition(Partition(0));
                let message = delay::timer(message, due, now);
                Ok((Route { topic: timers, partition, batched: false }, message))
            }
            _ => {
                // Of a shared topic single messages are competed for.
                let batched = self.core.settles_by_index && topic.ordering != Ordering::Shared;
                let topic = namespace.topic(&topic.name).partition(partition);
                Ok((Route { topic, partition, batched }, Outbound::new(message)))
            }
        }
    }
}

/// By its key; without one by its id, so that it goes to the same place when it is published again.
pub(crate) fn partition(topic: &Topic, message: &Message) -> Partition {
    match topic.ordering {
        Ordering::Shared => Partition(0),
        Ordering::ByKey { partitions } => {
            partition_of(message.key.as_deref().unwrap_or(message.id.as_str().as_bytes()), partitions)
        }
    }
}

/// The error of the first message that failed.
pub(crate) fn first_error(results: Vec<Result<Receipt>>) -> Result<(), Error> {
    results.into_iter().find_map(Result::err).map_or(Ok(()), Err)
}

/// Publishes one message to a topic that lives in memory, and waits until the broker has it.
pub(crate) async fn say(core: &Arc<Core>, topic: crate::names::FullName, message: Message) -> Result<()> {
    /// Beats come often: who is late is told again.
    const PATIENCE: Duration = Duration::from_secs(5);
    core.cluster.check("say")?;
    let (job, done) = Job::new(1, Arc::new(Semaphore::new(0)));
    let item = Item { message: Outbound::new(message), pledge: job.pledge(0) };
    core.lanes.push(&Route { topic, partition: Partition(0), batched: false }, vec![item]);
    let _ = timeout(PATIENCE, done).await;
    first_error(job.finish(|| error::timeout("say")))
}

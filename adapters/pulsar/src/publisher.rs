//! The publishers of partitions. Each is a task that opens a producer, sends the queued messages, and resolves their
//! promises.
//!
//! Entries follow each other without waiting for receipts. Messages that are queued meanwhile go into the next entry,
//! so that batches grow with the load, and no message waits for a batch to fill.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use partitura_broker::{Clock, Error, ErrorKind, Partition, Receipt, Result};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::timeout;

use crate::client::{Cluster, Outcome, Purpose, Registered};
use crate::error;
use crate::names::FullName;
use crate::publish_call::{Promise, PublishCall, unknown};
use crate::wire::{self, Outbound, Sender};

const OPERATION: &str = "publish";
/// How long a producer is kept that is not used.
const IDLE: Duration = Duration::from_secs(60);
/// How many entries of one partition may be unconfirmed. The broker stops reading at 1,000 of a connection.
const BATCHES: usize = 4;
const SINGLES: usize = 256;
/// The bounds of a batch.
const BATCH_MESSAGES: usize = 500;
const BATCH_BYTES: usize = 128 << 10;
/// How many messages a publisher takes from its queue in advance.
const AT_ONCE: usize = 1_024;

/// A message on its way to a partition.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) message: Outbound,
    pub(crate) promise: Promise,
}

/// The destination of a message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Route {
    pub(crate) topic: FullName,
    /// The partition in the receipt.
    pub(crate) partition: Partition,
    /// Whether it may share an entry with others.
    pub(crate) batched: bool,
}

/// The publishers of all routes in use. All producers of the contract share them, so that there is one producer of
/// Pulsar's for each partition.
#[derive(Debug)]
pub(crate) struct Publisher {
    cluster: Arc<Cluster>,
    clock: Arc<dyn Clock>,
    /// The queues are bounded by the windows of the producers. `None` after the broker was closed.
    queues: Mutex<Option<HashMap<Route, mpsc::UnboundedSender<Vec<Item>>>>>,
    /// The number of routes that are running.
    running: watch::Sender<usize>,
}

impl Publisher {
    pub(crate) fn new(cluster: Arc<Cluster>, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { cluster, clock, queues: Mutex::new(Some(HashMap::new())), running: watch::Sender::new(0) })
    }

    /// Queues messages, after all that were queued before. Does not wait.
    pub(crate) fn push(self: &Arc<Self>, route: &Route, items: Vec<Item>) {
        let mut queues = self.queues();
        let Some(queues) = &mut *queues else {
            items.into_iter().for_each(|item| item.promise.refused(error::closed(OPERATION)));
            return;
        };
        let items = match queues.get(route) {
            Some(queue) => match queue.send(items) {
                Ok(()) => return,
                Err(unsent) => unsent.0,
            },
            None => items,
        };
        let (queue, received) = mpsc::unbounded_channel();
        let _ = queue.send(items);
        queues.insert(route.clone(), queue);
        self.running.send_modify(|running| *running += 1);
        tokio::spawn(RoutePublisher::new(self.clone(), route.clone(), received).run());
    }

    /// Publishes messages that belong to no producer, unbatched, and waits for their outcomes. Those without one after
    /// `within` get a time-out of `operation`.
    pub(crate) async fn publish(
        self: &Arc<Self>,
        operation: &'static str,
        topic: FullName,
        messages: Vec<Outbound>,
        within: Duration,
    ) -> Vec<Result<Receipt>> {
        let (call, done) = PublishCall::new(messages.len(), Arc::new(Semaphore::new(0)));
        let item = |(index, message)| Item { message, promise: call.promise(index) };
        let items = messages.into_iter().enumerate().map(item).collect();
        self.push(&Route { topic, partition: Partition(0), batched: false }, items);
        let _ = timeout(within, done).await;
        call.finish(|| error::timeout(operation))
    }

    /// Accepts no more messages, and waits until all queued ones have an outcome.
    pub(crate) async fn close(&self) {
        // Without the sender of its queue a route ends when it has done its work.
        drop(self.queues().take());
        let _ = self.running.subscribe().wait_for(|running| *running == 0).await;
    }

    /// Ends a route unless something is queued.
    fn end(&self, route: &Route, queue: &mpsc::UnboundedReceiver<Vec<Item>>) -> bool {
        let mut queues = self.queues();
        let idle = queue.is_empty();
        if idle {
            queues.as_mut().and_then(|queues| queues.remove(route));
        }
        idle
    }

    fn queues(&self) -> MutexGuard<'_, Option<HashMap<Route, mpsc::UnboundedSender<Vec<Item>>>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Publishes the messages of one route, in order.
struct RoutePublisher {
    publisher: Arc<Publisher>,
    route: Route,
    queue: mpsc::UnboundedReceiver<Vec<Item>>,
    /// Taken from the queue, and not sent yet.
    waiting: VecDeque<Item>,
    /// Sent, and without a receipt yet, in the order of their numbers.
    sent: VecDeque<SentEntry>,
}

/// An entry without a receipt.
struct SentEntry {
    number: u64,
    promises: Vec<Promise>,
}

/// A producer of Pulsar's.
struct OpenProducer {
    registered: Registered,
    name: String,
    outcomes: mpsc::UnboundedReceiver<Outcome>,
    next: u64,
}

impl RoutePublisher {
    fn new(publisher: Arc<Publisher>, route: Route, queue: mpsc::UnboundedReceiver<Vec<Item>>) -> Self {
        Self { publisher, route, queue, waiting: VecDeque::new(), sent: VecDeque::new() }
    }

    async fn run(mut self) {
        loop {
            match timeout(IDLE, self.queue.recv()).await {
                Ok(Some(items)) => self.waiting.extend(items),
                Ok(None) => break,
                Err(_) if self.publisher.end(&self.route, &self.queue) => break,
                Err(_) => continue,
            }
            let failure = match self.open().await {
                Ok(opened) => match self.send(opened).await {
                    Ok(()) => break,
                    Err(error) => error,
                },
                Err(error) => error,
            };
            tracing::debug!(topic = %self.route.topic, error = %failure, "a producer is lost");
            self.fail(&failure);
        }
        self.publisher.running.send_modify(|running| *running -= 1);
    }

    async fn open(&self) -> Result<OpenProducer> {
        let topic = &self.route.topic;
        let connection = self.publisher.cluster.serving(OPERATION, topic, Purpose::Publish).await?;
        let (to, outcomes) = mpsc::unbounded_channel();
        let (registered, name) = connection.produce(OPERATION, topic.to_string(), to).await?;
        Ok(OpenProducer { registered, name, outcomes, next: 0 })
    }

    /// Sends until the route is idle for long, which is a success, or until the producer is lost.
    async fn send(&mut self, mut opened: OpenProducer) -> Result<()> {
        let room = if self.route.batched { BATCHES } else { SINGLES };
        let mut open = true;
        loop {
            while self.sent.len() < room && !self.waiting.is_empty() {
                self.send_entry(&mut opened);
            }
            if !open && self.sent.is_empty() {
                return opened.registered.close(OPERATION).await.or(Ok(()));
            }
            let idle = self.sent.is_empty();
            tokio::select! {
                outcome = opened.outcomes.recv() => self.take(outcome.unwrap_or(Outcome::Lost))?,
                items = self.queue.recv(), if open && self.waiting.len() < AT_ONCE => match items {
                    Some(items) => self.waiting.extend(items),
                    None => open = false,
                },
                () = tokio::time::sleep(IDLE), if idle => {
                    if self.publisher.end(&self.route, &self.queue) {
                        return opened.registered.close(OPERATION).await.or(Ok(()));
                    }
                }
            }
        }
    }

    /// Sends as many messages as fit into one entry.
    fn send_entry(&mut self, opened: &mut OpenProducer) {
        let (mut messages, mut promises, mut bytes) = (Vec::new(), Vec::new(), 0);
        while let Some(item) = self.waiting.pop_front() {
            if !item.promise.is_awaited(&self.route.topic) {
                item.promise
                    .failed(&self.route.topic, unsent("a message before it failed, or its caller stopped waiting"));
                continue;
            }
            let size = item.message.size();
            if !messages.is_empty() && bytes + size > BATCH_BYTES {
                self.waiting.push_front(item);
                break;
            }
            bytes += size;
            messages.push(item.message);
            promises.push(item.promise);
            if !self.route.batched || messages.len() == BATCH_MESSAGES {
                break;
            }
        }
        if messages.is_empty() {
            return;
        }
        let OpenProducer { registered, name, next, .. } = opened;
        let sender = Sender { producer: registered.id(), name, sequence: *next, now: self.publisher.clock.now() };
        let (send, payload) = wire::entry(sender, messages);
        registered.connection().publish(send, payload);
        self.sent.push_back(SentEntry { number: *next, promises });
        *next += 1;
    }

    fn take(&mut self, outcome: Outcome) -> Result<()> {
        match outcome {
            Outcome::Lost => Err(error::disconnected(OPERATION)),
            Outcome::Stored(number) => match self.sent.pop_front() {
                Some(first) if first.number == number => {
                    let receipt = Receipt { partition: self.route.partition };
                    first.promises.into_iter().for_each(|promise| promise.stored(receipt));
                    Ok(())
                }
                first => {
                    self.sent.extend(first);
                    Err(error::unexpected(OPERATION, format!("a receipt for entry {number}")))
                }
            },
            Outcome::Refused(number, error) => {
                if self.sent.front().is_some_and(|first| first.number == number)
                    && let Some(refused) = self.sent.pop_front()
                {
                    let topic = &self.route.topic;
                    refused.promises.into_iter().for_each(|promise| promise.failed(topic, error.duplicate().of(topic)));
                }
                Err(error)
            }
        }
    }

    /// Fails all messages without an outcome. Those that were sent may have been stored.
    fn fail(&mut self, error: &Error) {
        let topic = &self.route.topic;
        for promise in self.sent.drain(..).flat_map(|entry| entry.promises) {
            promise.failed(topic, unknown("the connection was lost before the receipt came").of(topic));
        }
        while let Ok(items) = self.queue.try_recv() {
            self.waiting.extend(items);
        }
        for item in self.waiting.drain(..) {
            item.promise.failed(topic, error.duplicate());
        }
    }
}

fn unsent(why: &str) -> Error {
    Error::new(ErrorKind::Disconnected, OPERATION, format!("it was not sent: {why}"))
}

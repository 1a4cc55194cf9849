//! The way to each partition: a task that opens a producer, sends what is queued, and keeps what was pledged.
//!
//! Entries follow each other without waiting for receipts. What is queued meanwhile goes into the next entry, so that
//! batches grow with the load and nothing waits for a batch to fill.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use partitura_broker::{Clock, Error, ErrorKind, Partition, Receipt, Result};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::error;
use crate::job::{Pledge, unknown};
use crate::names::FullName;
use crate::session::{Cluster, Outcome, Purpose, Registered};
use crate::wire::{self, Outbound, Sender};

const OPERATION: &str = "publish";
/// How long a producer is kept that nobody uses.
const IDLE: Duration = Duration::from_secs(60);
/// How many entries of one partition may be on their way. The broker stops reading at 1,000 of a connection.
const BATCHES: usize = 4;
const SINGLES: usize = 256;
/// What a batch has at most.
const BATCH_MESSAGES: usize = 500;
const BATCH_BYTES: usize = 128 << 10;
/// How many messages are taken up at once.
const AT_ONCE: usize = 1_024;

/// A message on its way to a partition.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) message: Outbound,
    pub(crate) pledge: Pledge,
}

/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Route {
    pub(crate) topic: FullName,
    /// What its receipt says.
    pub(crate) partition: Partition,
    /// Whether it may share an entry with others.
    pub(crate) batched: bool,
}

/// All ways that are in use. Each producer of ours shares them, so that there is one of Pulsar's for each partition.
#[derive(Debug)]
pub(crate) struct Lanes {
    cluster: Arc<Cluster>,
    clock: Arc<dyn Clock>,
    /// Unbounded, and yet bounded by the windows of the producers. `None` when all is closed.
    open: Mutex<Option<HashMap<Route, mpsc::UnboundedSender<Vec<Item>>>>>,
    /// How many lanes run.
    running: watch::Sender<usize>,
}

impl Lanes {
    pub(crate) fn new(cluster: Arc<Cluster>, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { cluster, clock, open: Mutex::new(Some(HashMap::new())), running: watch::Sender::new(0) })
    }

    /// Queues messages, behind all that were queued before. Does not wait.
    pub(crate) fn push(self: &Arc<Self>, route: &Route, items: Vec<Item>) {
        let mut open = self.open();
        let Some(lanes) = &mut *open else {
            items.into_iter().for_each(|item| item.pledge.refused(error::closed(OPERATION)));
            return;
        };
        let items = match lanes.get(route) {
            Some(lane) => match lane.send(items) {
                Ok(()) => return,
                Err(unsent) => unsent.0,
            },
            None => items,
        };
        let (lane, queue) = mpsc::unbounded_channel();
        let _ = lane.send(items);
        lanes.insert(route.clone(), lane);
        self.running.send_modify(|running| *running += 1);
        tokio::spawn(Lane::new(self.clone(), route.clone(), queue).run());
    }

    /// Takes up nothing more, and waits until everything that was queued has an outcome.
    pub(crate) async fn close(&self) {
        // Without its sender a lane ends when it has done its work.
        drop(self.open().take());
        let _ = self.running.subscribe().wait_for(|running| *running == 0).await;
    }

    /// Ends a lane unless something is queued.
    fn end(&self, route: &Route, queue: &mpsc::UnboundedReceiver<Vec<Item>>) -> bool {
        let mut open = self.open();
        let idle = queue.is_empty();
        if idle {
            open.as_mut().and_then(|lanes| lanes.remove(route));
        }
        idle
    }

    fn open(&self) -> MutexGuard<'_, Option<HashMap<Route, mpsc::UnboundedSender<Vec<Item>>>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of them.
struct Lane {
    lanes: Arc<Lanes>,
    route: Route,
    queue: mpsc::UnboundedReceiver<Vec<Item>>,
    /// Taken from the queue, and not sent yet.
    waiting: VecDeque<Item>,
    /// Sent, and without a receipt yet, in the order of their numbers.
    sent: VecDeque<(u64, Vec<Pledge>)>,
}

/// A producer of Pulsar's.
struct Opened {
    registered: Registered,
    name: String,
    outcomes: mpsc::UnboundedReceiver<Outcome>,
    next: u64,
}

impl Lane {
    fn new(lanes: Arc<Lanes>, route: Route, queue: mpsc::UnboundedReceiver<Vec<Item>>) -> Self {
        Self { lanes, route, queue, waiting: VecDeque::new(), sent: VecDeque::new() }
    }

    async fn run(mut self) {
        loop {
            match timeout(IDLE, self.queue.recv()).await {
                Ok(Some(items)) => self.waiting.extend(items),
                Ok(None) => break,
                Err(_) if self.lanes.end(&self.route, &self.queue) => break,
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
        self.lanes.running.send_modify(|running| *running -= 1);
    }

    async fn open(&self) -> Result<Opened> {
        let topic = &self.route.topic;
        let connection = self.lanes.cluster.serving(OPERATION, topic, Purpose::Publish).await?;
        let (to, outcomes) = mpsc::unbounded_channel();
        let (registered, name) = connection.produce(OPERATION, topic.to_string(), to).await?;
        Ok(Opened { registered, name, outcomes, next: 0 })
    }

    /// Sends until there is nothing to send for long (then it ends well), or until the producer is lost.
    async fn send(&mut self, mut opened: Opened) -> Result<()> {
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
                    if self.lanes.end(&self.route, &self.queue) {
                        return opened.registered.close(OPERATION).await.or(Ok(()));
                    }
                }
            }
        }
    }

    /// Sends what fits into one entry.
    fn send_entry(&mut self, opened: &mut Opened) {
        let (mut messages, mut pledges, mut bytes) = (Vec::new(), Vec::new(), 0);
        while let Some(item) = self.waiting.pop_front() {
            if !item.pledge.is_wanted(&self.route.topic) {
                item.pledge.failed(&self.route.topic, unsent("a message before it failed, or nobody waits for it"));
                continue;
            }
            let size = item.message.size();
            if !messages.is_empty() && bytes + size > BATCH_BYTES {
                self.waiting.push_front(item);
                break;
            }
            bytes += size;
            messages.push(item.message);
            pledges.push(item.pledge);
            if !self.route.batched || messages.len() == BATCH_MESSAGES {
                break;
            }
        }
        if messages.is_empty() {
            return;
        }
        let Opened { registered, name, next, .. } = opened;
        let sender = Sender { producer: registered.id(), name, sequence: *next, now: self.lanes.clock.now() };
        let (send, payload) = wire::entry(sender, messages);
        registered.connection().publish(send, payload);
        self.sent.push_back((*next, pledges));
        *next += 1;
    }

    fn take(&mut self, outcome: Outcome) -> Result<()> {
        match outcome {
            Outcome::Lost => Err(error::disconnected(OPERATION)),
            Outcome::Stored(number) => match self.sent.pop_front() {
                Some((first, pledges)) if first == number => {
                    let receipt = Receipt { partition: self.route.partition };
                    pledges.into_iter().for_each(|pledge| pledge.stored(receipt));
                    Ok(())
                }
                first => {
                    self.sent.extend(first);
                    Err(error::unexpected(OPERATION, format!("a receipt for entry {number}")))
                }
            },
            Outcome::Refused(number, error) => {
                if self.sent.front().is_some_and(|(first, _)| *first == number)
                    && let Some((_, pledges)) = self.sent.pop_front()
                {
                    let topic = &self.route.topic;
                    pledges.into_iter().for_each(|pledge| pledge.failed(topic, error.duplicate().of(topic)));
                }
                Err(error)
            }
        }
    }

    /// Fails all that has no outcome: what was sent may have been stored, what was not was not.
    fn fail(&mut self, error: &Error) {
        let topic = &self.route.topic;
        for pledge in self.sent.drain(..).flat_map(|(_, pledges)| pledges) {
            pledge.failed(topic, unknown("the connection was lost before the receipt came").of(topic));
        }
        while let Ok(items) = self.queue.try_recv() {
            self.waiting.extend(items);
        }
        for item in self.waiting.drain(..) {
            item.pledge.failed(topic, error.duplicate());
        }
    }
}

fn unsent(why: &str) -> Error {
    Error::new(ErrorKind::Disconnected, OPERATION, format!("it was not sent: {why}"))
}

use std::collections::HashMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures::FutureExt;
use futures::future::FusedFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Channel, Confirmation, Connection};
use partitura_broker::{
    Clock, Error, ErrorKind, Message, Ordering, Partition, ProducerOptions, Receipt, Result, Topic, TopicKind,
    partition_of,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use crate::batch::Batch;
use crate::core::{Core, PublisherGuard};
use crate::delay::Wait;
use crate::error::{classify, closed};
use crate::link::{answer, open_channel};
use crate::{names, wire};

/// How many calls may wait for the task; further ones wait before it, in turn.
const CALLS: usize = 16;
/// How often is looked whether the broker takes messages again.
const LOOK: Duration = Duration::from_millis(20);

/// A message to publish.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    pub(crate) message: Message,
    /// It may have been published before, by somebody who died of it.
    pub(crate) again: bool,
    /// For how long it is kept back at least, even if it is due.
    pub(crate) pause: Duration,
}

/// Publishes on a channel of its own, in the order of the calls, and matches confirms. A task does it, so that dropping
/// a call reorders nothing.
#[derive(Debug)]
pub(crate) struct Publisher {
    calls: mpsc::Sender<Call>,
}

#[derive(Debug)]
struct Call {
    messages: Vec<Outgoing>,
    answer: oneshot::Sender<Vec<Result<Receipt>>>,
}

impl Publisher {
    pub(crate) fn start(core: Arc<Core>, options: &ProducerOptions) -> Self {
        let (calls, received) = mpsc::channel(CALLS);
        let task = Task {
            guard: core.publisher(),
            core,
            window: options.window.get(),
            confirm_within: options.confirm_within,
            session: None,
            in_flight: FuturesUnordered::new(),
            batches: HashMap::new(),
            next_batch: 0,
            next_partition: 0,
            returned: Vec::new(),
        };
        tokio::spawn(task.run(received));
        Self { calls }
    }

    /// As [`Producer::publish`](partitura_broker::Producer::publish).
    pub(crate) async fn publish(&self, messages: Vec<Outgoing>) -> Vec<Result<Receipt>> {
        let count = messages.len();
        let gone = || (0..count).map(|_| Err(closed("publish"))).collect();
        let (answer, answered) = oneshot::channel();
        // Senders are served in the order in which they began to wait.
        if self.calls.send(Call { messages, answer }).await.is_err() {
            return gone();
        }
        answered.await.unwrap_or_else(|_| gone())
    }
}

struct Task {
    core: Arc<Core>,
    #[expect(dead_code, reason = "held for as long as the task runs")]
    guard: PublisherGuard,
    window: usize,
    confirm_within: Duration,
    session: Option<Session>,
    in_flight: FuturesUnordered<Pin<Box<dyn Future<Output = Landed> + Send>>>,
    batches: HashMap<u64, Batch>,
    next_batch: u64,
    /// Where the next message without a key goes.
    next_partition: u32,
    /// What the broker could not route, until its confirm comes.
    returned: Vec<Address>,
}

/// A channel in confirm mode, and the connection that it is on.
#[derive(Clone)]
struct Session {
    connection: Arc<Connection>,
    channel: Channel,
}

/// What became of a message.
struct Landed {
    batch: u64,
    index: usize,
    receipt: Receipt,
    address: Address,
    outcome: Result<lapin::Result<Confirmation>, tokio::time::error::Elapsed>,
}

/// By what a message is recognised that the broker returns: exchange, routing key, id.
type Address = (String, String, String);

/// Where a message goes.
struct Route {
    exchange: String,
    key: String,
    partition: Partition,
    mandatory: bool,
}

impl Task {
    async fn run(mut self, mut calls: mpsc::Receiver<Call>) {
        let core = self.core.clone();
        let mut closed = pin!(core.dial.until_closed().fuse());
        loop {
            tokio::select! {
                biased;
                () = &mut closed, if !closed.is_terminated() => calls.close(),
                Some(landed) = self.in_flight.next() => self.land(landed),
                call = calls.recv(), if self.in_flight.len() < self.window => match call {
                    Some(call) => self.send_all(call).await,
                    None => break,
                },
            }
        }
        while let Some(landed) = self.in_flight.next().await {
            self.land(landed);
        }
    }

    async fn send_all(&mut self, Call { messages, answer }: Call) {
        let number = self.next_batch;
        self.next_batch += 1;
        let batch = Batch::new(messages.iter().map(|outgoing| &outgoing.message), answer);
        if messages.is_empty() {
            return batch.answer();
        }
        self.batches.insert(number, batch);
        // A call begins and ends on one channel: after a lost one, nothing of it may be sent that would overtake what was
        // lost. It need not try to connect more than once, either.
        let session = self.session().await;
        for (index, outgoing) in messages.into_iter().enumerate() {
            while self.in_flight.len() >= self.window {
                if let Some(landed) = self.in_flight.next().await {
                    self.land(landed);
                }
            }
            let sent = match &session {
                Ok(session) => self.send(session, number, index, outgoing).await,
                Err(error) => {
                    self.core.capabilities.check(&outgoing.message, self.core.clock.now()).and(Err(error.duplicate()))
                }
            };
            if let Err(error) = sent {
                self.resolve(number, index, Err(error));
            }
        }
    }

    /// Sends a message. Its confirm lands later.
    async fn send(&mut self, session: &Session, batch: u64, index: usize, outgoing: Outgoing) -> Result<()> {
        let Outgoing { message, again, pause } = outgoing;
        self.core.capabilities.check(&message, self.core.clock.now())?;
        if let Some(error) = self.batches.get(&batch).and_then(|batch| batch.blocked_by(index)) {
            return Err(error);
        }
        let topic = match self.core.topics.get_known(&message.topic) {
            Some(topic) => topic,
            None => self.core.topics.get(&message.topic, "publish").await?,
        };
        self.until_unblocked(session, &message).await?;
        let route = self.route(&message, &topic, pause);
        let receipt = Receipt { partition: route.partition };
        let address = (route.exchange, route.key, message.id.as_str().to_owned());
        let options = BasicPublishOptions { mandatory: route.mandatory, immediate: false };
        let (channel, within) = (session.channel.clone(), self.confirm_within);
        let mut landing = Box::pin(async move {
            let properties = wire::properties(&message, again);
            let (exchange, key) = (address.0.as_str().into(), address.1.as_str().into());
            let confirmed = async {
                let confirm = channel.basic_publish(exchange, key, options, &message.payload, properties).await?;
                confirm.await
            };
            let outcome = timeout(within, confirmed).await;
            Landed { batch, index, receipt, address, outcome }
        });
        // The first poll queues the frames: this is where the order is made.
        match futures::poll!(landing.as_mut()) {
            Poll::Ready(Landed { outcome: Ok(Err(error)), .. }) => {
                return Err(self.core.publishing.explain(error, "publish"));
            }
            Poll::Ready(landed) => self.in_flight.push(Box::pin(async move { landed })),
            Poll::Pending => self.in_flight.push(landing),
        }
        Ok(())
    }

    fn route(&mut self, message: &Message, topic: &Topic, pause: Duration) -> Route {
        let partition = match (&message.key, topic.ordering) {
            (Some(key), Ordering::ByKey { partitions }) => partition_of(key, partitions),
            (None, Ordering::ByKey { partitions }) => {
                self.next_partition = self.next_partition.wrapping_add(1);
                Partition(self.next_partition % partitions)
            }
            (_, Ordering::Shared) => Partition(0),
        };
        let delay = message.not_before.map(|due| due.since(self.core.clock.now())).unwrap_or_default();
        let (exchange, key) = match Wait::of(delay.max(pause)) {
            Wait::None => (names::exchange(&topic.name), partition.to_string()),
            Wait::Brief => (names::DUE.to_owned(), names::delayed(0, &topic.name)),
            Wait::Room(millis) => (names::LATER.to_owned(), names::delayed(millis, &topic.name)),
        };
        // A stream may have no subscription; then its messages are for nobody.
        let mandatory = topic.kind == TopicKind::Queue || exchange == names::LATER;
        Route { exchange, key, partition, mandatory }
    }

    /// Waits while the broker takes no messages for want of memory or disk.
    async fn until_unblocked(&mut self, session: &Session, message: &Message) -> Result<()> {
        let began = Instant::now();
        while session.connection.status().blocked() {
            if began.elapsed() >= self.confirm_within {
                let text = "the broker takes no messages, for its memory or its disk is short; see its log";
                return Err(Error::new(ErrorKind::Throttled, "publish", text).of(&message.topic));
            }
            tokio::select! {
                Some(landed) = self.in_flight.next() => self.land(landed),
                () = sleep(LOOK) => {}
            }
        }
        Ok(())
    }

    async fn session(&mut self) -> Result<Session> {
        if let Some(session) = self.session.as_ref().filter(|session| session.channel.status().connected()) {
            return Ok(session.clone());
        }
        let failed = |error| classify(error, "publish");
        let connection = self.core.publishing.connection().await?;
        let channel = open_channel(&connection).await.map_err(failed)?;
        answer(channel.confirm_select(ConfirmSelectOptions::default())).await.map_err(failed)?;
        Ok(self.session.insert(Session { connection, channel }).clone())
    }

    /// Takes down what became of a message, and of all others of which it is known too.
    fn land(&mut self, first: Landed) {
        let mut landed = vec![first];
        self.land_ready(&mut landed);
        // A message that is returned is confirmed as well, and the client gives the returned one to whichever confirm
        // it happens to complete first. All that the broker confirmed at once are complete when this has had the client's
        // lock; so the one that brought it is among these, or was before.
        if let Some(session) = &self.session {
            let strays = session.channel.wait_for_confirms().now_or_never();
            self.returned.extend(strays.and_then(lapin::Result::ok).unwrap_or_default().iter().map(address));
        }
        self.land_ready(&mut landed);
        for landed in &landed {
            if let Ok(Ok(Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned)))) = &landed.outcome {
                self.returned.push(address(returned));
            }
        }
        for landed in landed {
            let result = self.result(landed.outcome, &landed.address).map(|()| landed.receipt);
            self.resolve(landed.batch, landed.index, result);
        }
        if self.in_flight.is_empty() {
            self.returned.clear();
        }
    }

    fn land_ready(&mut self, landed: &mut Vec<Landed>) {
        while let Some(Some(next)) = self.in_flight.next().now_or_never() {
            landed.push(next);
        }
    }

    fn result(
        &mut self,
        outcome: Result<lapin::Result<Confirmation>, tokio::time::error::Elapsed>,
        address: &Address,
    ) -> Result<()> {
        let unknown = |message: String| Error::new(ErrorKind::OutcomeUnknown, "publish", message);
        match outcome {
            Err(_) => Err(unknown(format!("no confirm within {:?}", self.confirm_within))),
            Ok(Err(error)) => {
                // Perhaps because the exchange was deleted: what is known of topics may be wrong.
                self.core.topics.forget_all();
                Err(unknown("the connection was lost before the confirm".into()).because(error))
            }
            Ok(Ok(Confirmation::Nack(_))) => {
                let message = "the broker refused it: a queue is full by a policy, or not available";
                Err(Error::new(ErrorKind::Throttled, "publish", message))
            }
            Ok(Ok(_)) => match self.returned.iter().position(|returned| returned == address) {
                None => Ok(()),
                Some(at) => {
                    self.returned.swap_remove(at);
                    let message =
                        format!("no queue is bound to {:?} with {:?}: declare a subscription", address.0, address.1);
                    Err(Error::new(ErrorKind::NotFound, "publish", message))
                }
            },
        }
    }

    fn resolve(&mut self, batch: u64, index: usize, result: Result<Receipt>) {
        let last = self.batches.get_mut(&batch).is_some_and(|batch| batch.resolve(index, result));
        if last && let Some(batch) = self.batches.remove(&batch) {
            batch.answer();
        }
    }
}

fn address(returned: &lapin::message::BasicReturnMessage) -> Address {
    let id = returned.properties.message_id().as_ref().map_or("", |id| id.as_str());
    (returned.exchange.to_string(), returned.routing_key.to_string(), id.to_owned())
}

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
use partitura_adapter_kit::{OpenCalls, Partitioner, PublishCall, PublishQueue, PublisherGuard};
use partitura_broker::{
    Clock, Error, ErrorKind, Message, Partition, ProducerOptions, Receipt, Result, Topic, TopicKind,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use crate::client::answer;
use crate::core::Core;
use crate::delay::Wait;
use crate::error::classify;
use crate::{names, wire};

/// The interval of checks whether the broker takes messages again.
const UNBLOCKED_CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// A message to publish.
#[derive(Debug, Clone)]
pub(crate) struct Publication {
    pub(crate) message: Message,
    /// Whether it may have been published before, by a forwarder that has died.
    pub(crate) is_repeated: bool,
    /// The least time for which it is kept back, also if it is due.
    pub(crate) pause: Duration,
}

impl Publication {
    /// A message that is published for the first time.
    pub(crate) fn new(message: Message) -> Self {
        Self { message, is_repeated: false, pause: Duration::ZERO }
    }
}

/// Publishes on a channel of its own, in the order of the calls, and matches confirms. A task does it, so that dropping
/// a call reorders nothing.
#[derive(Debug)]
pub(crate) struct Publisher(PublishQueue<Publication>);

impl Publisher {
    pub(crate) fn start(core: Arc<Core>, options: &ProducerOptions) -> Self {
        let (queue, calls) = PublishQueue::new();
        let task = Task {
            guard: core.publishers.enter(),
            core,
            window: options.window.get(),
            confirm_within: options.confirm_within,
            session: None,
            has_confirmed: false,
            in_flight: FuturesUnordered::new(),
            open: OpenCalls::default(),
            partitioner: Partitioner::default(),
            returned: Vec::new(),
        };
        tokio::spawn(task.run(calls));
        Self(queue)
    }

    /// As [`Producer::publish`](partitura_broker::Producer::publish).
    pub(crate) async fn publish(&self, messages: Vec<Publication>) -> Vec<Result<Receipt>> {
        self.0.publish(messages).await
    }
}

struct Task {
    core: Arc<Core>,
    #[expect(dead_code, reason = "held for as long as the task runs")]
    guard: PublisherGuard,
    window: usize,
    confirm_within: Duration,
    session: Option<Session>,
    /// Whether a message was confirmed in this session.
    has_confirmed: bool,
    in_flight: FuturesUnordered<Pin<Box<dyn Future<Output = Landed> + Send>>>,
    open: OpenCalls,
    partitioner: Partitioner,
    /// The messages that the broker could not route, until their confirms come.
    returned: Vec<Address>,
}

/// A channel in confirm mode, and the connection that it is on.
#[derive(Clone)]
struct Session {
    connection: Arc<Connection>,
    channel: Channel,
}

/// The outcome of a message.
struct Landed {
    call: u64,
    index: usize,
    receipt: Receipt,
    address: Address,
    outcome: Result<lapin::Result<Confirmation>, tokio::time::error::Elapsed>,
}

/// The values by which a message is recognised that the broker returns.
#[derive(Debug, PartialEq, Eq)]
struct Address {
    exchange: String,
    routing_key: String,
    id: String,
}

/// The destination of a message.
struct Route {
    exchange: String,
    routing_key: String,
    partition: Partition,
    mandatory: bool,
}

impl Task {
    async fn run(mut self, mut calls: mpsc::Receiver<PublishCall<Publication>>) {
        let core = self.core.clone();
        let mut closed = pin!(core.client.closed().fuse());
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

    async fn send_all(&mut self, PublishCall { messages, answer }: PublishCall<Publication>) {
        let to_publish = messages.iter().map(|publication| &publication.message);
        let Some(call) = self.open.begin(to_publish, answer) else { return };
        // A call begins and ends on one channel: after a loss, no later message of the call may overtake the lost
        // ones. So one attempt to connect is enough, too.
        let session = self.session().await;
        for (index, publication) in messages.into_iter().enumerate() {
            while self.in_flight.len() >= self.window {
                if let Some(landed) = self.in_flight.next().await {
                    self.land(landed);
                }
            }
            let sent = match &session {
                Ok(session) => self.send(session, call, index, publication).await,
                Err(error) => self
                    .core
                    .capabilities
                    .check(&publication.message, self.core.clock.now())
                    .and(Err(error.duplicate())),
            };
            if let Err(error) = sent {
                self.open.resolve(call, index, Err(error));
            }
        }
    }

    /// Sends a message. Its confirm comes later.
    async fn send(&mut self, session: &Session, call: u64, index: usize, publication: Publication) -> Result<()> {
        let Publication { message, is_repeated, pause } = publication;
        self.core.capabilities.check(&message, self.core.clock.now())?;
        if let Some(error) = self.open.blocked_by(call, index) {
            return Err(error);
        }
        let topic = match self.core.topics.cached(&message.topic) {
            Some(topic) => topic,
            None => self.core.topics.get(&message.topic, "publish").await?,
        };
        self.until_unblocked(session, &message).await?;
        let route = self.route(&message, &topic, pause);
        let receipt = Receipt { partition: route.partition };
        let Route { exchange, routing_key, .. } = route;
        let address = Address { exchange, routing_key, id: message.id.as_str().to_owned() };
        let options = BasicPublishOptions { mandatory: route.mandatory, immediate: false };
        let (channel, within) = (session.channel.clone(), self.confirm_within);
        let mut landing = Box::pin(async move {
            let properties = wire::properties(&message, is_repeated);
            let (exchange, key) = (address.exchange.as_str().into(), address.routing_key.as_str().into());
            let confirmed = async {
                let confirm = channel.basic_publish(exchange, key, options, &message.payload, properties).await?;
                confirm.await
            };
            let outcome = timeout(within, confirmed).await;
            Landed { call, index, receipt, address, outcome }
        });
        // The first poll queues the frames. This decides the order.
        match futures::poll!(landing.as_mut()) {
            Poll::Ready(Landed { outcome: Ok(Err(error)), .. }) => {
                return Err(self.core.publishing.explain("publish", error));
            }
            Poll::Ready(landed) => self.in_flight.push(Box::pin(async move { landed })),
            Poll::Pending => self.in_flight.push(landing),
        }
        Ok(())
    }

    fn route(&mut self, message: &Message, topic: &Topic, pause: Duration) -> Route {
        let partition = self.partitioner.partition(message, topic.ordering);
        let delay = message.not_before.map(|due| due.since(self.core.clock.now())).unwrap_or_default();
        let (exchange, routing_key) = match Wait::for_delay(delay.max(pause)) {
            Wait::None => (names::exchange(&topic.name), partition.to_string()),
            Wait::Brief => (names::DUE.to_owned(), names::delayed(0, &topic.name)),
            Wait::InQueue(millis) => (names::LATER.to_owned(), names::delayed(millis, &topic.name)),
        };
        // A stream may have no subscription. Then its messages are dropped.
        let mandatory = topic.kind == TopicKind::Queue || exchange == names::LATER;
        Route { exchange, routing_key, partition, mandatory }
    }

    /// Waits while the broker takes no messages, because its memory or its disk is short.
    async fn until_unblocked(&mut self, session: &Session, message: &Message) -> Result<()> {
        let began = Instant::now();
        while session.connection.status().blocked() {
            if began.elapsed() >= self.confirm_within {
                let text = "the broker takes no messages, since its memory or its disk is short; see its log";
                return Err(Error::new(ErrorKind::Throttled, "publish", text).of(&message.topic));
            }
            tokio::select! {
                Some(landed) = self.in_flight.next() => self.land(landed),
                () = sleep(UNBLOCKED_CHECK_INTERVAL) => {}
            }
        }
        Ok(())
    }

    async fn session(&mut self) -> Result<Session> {
        if let Some(session) = self.session.as_ref().filter(|session| session.channel.status().connected()) {
            return Ok(session.clone());
        }
        let failed = |error| classify("publish", error);
        let (channel, connection) = self.core.publishing.channel_and_connection().await?;
        answer(channel.confirm_select(ConfirmSelectOptions::default())).await.map_err(failed)?;
        self.has_confirmed = false;
        Ok(self.session.insert(Session { connection, channel }).clone())
    }

    /// Records the outcome of a message, and of all others whose outcomes are known.
    fn land(&mut self, first: Landed) {
        let mut landed = vec![first];
        self.land_ready(&mut landed);
        // A message that is returned is confirmed as well, and the client gives the returned one to any confirm that it
        // completes first. Once this has had the client's lock, all messages are complete that the broker confirmed at
        // once. So the confirm with the returned message is among these, or came before.
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
            self.open.resolve(landed.call, landed.index, result);
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
        self.has_confirmed |= matches!(outcome, Ok(Ok(_)));
        match outcome {
            Err(_) => Err(unknown(format!("no confirm within {:?}", self.confirm_within))),
            Ok(Err(error)) => {
                // The exchange may have been deleted, so the cache of topics may be wrong.
                self.core.topics.forget_all();
                // If the right was taken away just now, the first messages may have been stored. The next session says
                // that it is missing.
                let error = classify("publish", error);
                let is_refused = error.kind() == ErrorKind::Unauthorized && !self.has_confirmed;
                match is_refused && error.to_string().contains(&format!("'{}'", address.exchange)) {
                    true => Err(error),
                    false => Err(unknown("the connection was lost before the confirm".into()).because(error)),
                }
            }
            Ok(Ok(Confirmation::Nack(_))) => {
                let message = "the broker refused it: a queue is full by a policy, or not available";
                Err(Error::new(ErrorKind::Throttled, "publish", message))
            }
            Ok(Ok(_)) => match self.returned.iter().position(|returned| returned == address) {
                None => Ok(()),
                Some(at) => {
                    self.returned.swap_remove(at);
                    let Address { exchange, routing_key, .. } = address;
                    let message =
                        format!("no queue is bound to {exchange:?} with {routing_key:?}: declare a subscription");
                    Err(Error::new(ErrorKind::NotFound, "publish", message))
                }
            },
        }
    }
}

fn address(returned: &lapin::message::BasicReturnMessage) -> Address {
    let id = returned.properties.message_id().as_ref().map_or("", |id| id.as_str());
    Address {
        exchange: returned.exchange.to_string(),
        routing_key: returned.routing_key.to_string(),
        id: id.to_owned(),
    }
}

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use fe2o3_amqp::link::SendError;
use fe2o3_amqp::types::messaging::Outcome;
use futures::FutureExt;
use futures::future::FusedFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use partitura_adapter_kit::{OpenCalls, Partitioner, PublishCall, PublishQueue, PublisherGuard};
use partitura_broker::{Clock, Error, ErrorKind, Message, ProducerOptions, Receipt, Result, Topic, TopicName};
use tokio::sync::mpsc;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use crate::client::Senders;
use crate::core::Core;
use crate::error::refused;
use crate::wire::{self, Route};

const PUBLISH: &str = "publish";

/// A message to publish.
#[derive(Debug, Clone)]
pub(crate) struct Publication {
    pub(crate) message: Message,
    /// Whether it may have been published before, by a forwarder that has died.
    pub(crate) is_repeated: bool,
}

/// Publishes on links of its own, in the order of the calls. A task does it, so that dropping a call reorders nothing.
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
            links: None,
            in_flight: FuturesUnordered::new(),
            open: OpenCalls::default(),
            partitioner: Partitioner::default(),
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
    links: Option<Senders>,
    in_flight: FuturesUnordered<Pin<Box<dyn Future<Output = Landed> + Send>>>,
    open: OpenCalls,
    partitioner: Partitioner,
}

/// The outcome of a message.
struct Landed {
    call: u64,
    index: usize,
    topic: TopicName,
    receipt: Receipt,
    outcome: Result<std::result::Result<Outcome, SendError>, Elapsed>,
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
        // A call begins and ends on one link: after a loss, no later message of the call may overtake the lost ones. So
        // one attempt to connect is enough, too.
        let mut lost = self.attach().await.err();
        for (index, publication) in messages.into_iter().enumerate() {
            while self.in_flight.len() >= self.window {
                if let Some(landed) = self.in_flight.next().await {
                    self.land(landed);
                }
            }
            let sent = match &lost {
                None => self.send(call, index, publication).await,
                Some(error) => self.check(&publication.message).and(Err(error.duplicate())),
            };
            if let Err(error) = sent {
                if self.links.is_none() && lost.is_none() {
                    lost = Some(error.duplicate());
                }
                self.open.resolve(call, index, Err(error));
            }
        }
    }

    fn check(&self, message: &Message) -> Result<()> {
        self.core.capabilities.check(message, self.core.clock.now())
    }

    /// Opens a session for the links, unless it is open.
    async fn attach(&mut self) -> Result<()> {
        if self.links.as_ref().is_some_and(|links| !links.is_ended()) {
            return Ok(());
        }
        self.links = None;
        self.links = Some(Senders::open(&self.core.publishing, PUBLISH).await?);
        Ok(())
    }

    /// Sends a message. Its confirm comes later.
    async fn send(&mut self, call: u64, index: usize, publication: Publication) -> Result<()> {
        let Publication { message, is_repeated } = publication;
        self.check(&message)?;
        if let Some(error) = self.open.blocked_by(call, index) {
            return Err(error);
        }
        let topic = match self.core.topics.cached(&message.topic) {
            Some(topic) => topic,
            None => self.core.topics.get(&message.topic, PUBLISH).await?,
        };
        let route = self.route(&message, &topic);
        let receipt = Receipt { partition: route.partition };
        let Some(links) = &mut self.links else { return Err(self.core.check_open(PUBLISH).err().unwrap_or_else(lost)) };
        let sender = match links.to(PUBLISH, route.link.as_deref()).await {
            Ok(sender) => sender,
            Err(error) => {
                match error.kind() {
                    ErrorKind::Disconnected | ErrorKind::Timeout | ErrorKind::Closed => self.links = None,
                    // The broker refuses this address, and the session goes on.
                    ErrorKind::NotFound => self.core.topics.forget(&topic.name),
                    _ => {}
                }
                return Err(error);
            }
        };
        let within = self.confirm_within;
        match timeout(within, sender.send_batchable(wire::outgoing(&message, route, is_repeated))).await {
            Ok(Ok(confirm)) => {
                let topic = message.topic;
                self.in_flight.push(Box::pin(async move {
                    Landed { call, index, topic, receipt, outcome: timeout(within, confirm).await }
                }));
                Ok(())
            }
            Ok(Err(error)) => {
                self.links = None;
                Err(self.core.publishing.explain(PUBLISH, error))
            }
            Err(_) => {
                // It waited for credit. Nobody can know which messages the client has begun to send.
                self.links = None;
                let text = format!("the broker takes no messages within {within:?}, since it is full; see its log");
                Err(Error::new(ErrorKind::Throttled, PUBLISH, text).of(&message.topic))
            }
        }
    }

    fn route(&mut self, message: &Message, topic: &Topic) -> Route {
        let partition = self.partitioner.partition(message, topic.ordering);
        let not_before = message.not_before.filter(|due| *due > self.core.clock.now());
        self.core.profile.route(&topic.name, partition, not_before)
    }

    fn land(&mut self, Landed { call, index, topic, receipt, outcome }: Landed) {
        let result = self.result(&topic, outcome).map(|()| receipt);
        self.open.resolve(call, index, result);
    }

    fn result(
        &mut self,
        topic: &TopicName,
        outcome: Result<std::result::Result<Outcome, SendError>, Elapsed>,
    ) -> Result<()> {
        let unknown = |message: String| Error::new(ErrorKind::OutcomeUnknown, PUBLISH, message);
        match outcome {
            Err(_) => Err(unknown(format!("no confirm within {:?}", self.confirm_within))),
            Ok(Err(error)) => {
                self.links = None;
                Err(unknown("the connection was lost before the confirm".into()).because(error))
            }
            Ok(Ok(Outcome::Accepted(_))) => Ok(()),
            Ok(Ok(Outcome::Rejected(rejected))) => {
                let unexplained =
                    || Error::new(ErrorKind::Throttled, PUBLISH, "the broker refuses it without a reason");
                let error = rejected.error.map_or_else(unexplained, |said| refused(PUBLISH, &said));
                if error.kind() == ErrorKind::NotFound {
                    // The address was deleted.
                    self.core.topics.forget(topic);
                }
                Err(error)
            }
            Ok(Ok(other)) => {
                Err(Error::new(ErrorKind::Throttled, PUBLISH, format!("the broker does not take it: {other:?}")))
            }
        }
    }
}

fn lost() -> Error {
    Error::new(ErrorKind::Disconnected, PUBLISH, "the link was lost")
}

//! A partition, or the broadcast of a stream, with one owner.
//!
//! Its consumer on the server delivers ("pushes") to a subject of the owner. A member that wants the partition asks the
//! server to deliver to its own subject instead. The server agrees only when no client is subscribed to the old subject
//! any more, that is, when the owner unsubscribed or its connection is gone. Then it sends everything unacknowledged
//! again. So there is never a second owner, nothing has to expire, and no clock is needed.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::consumer::{Config, Info};
use async_nats::{Message, Subject, Subscriber};
use async_trait::async_trait;
use futures::future::{BoxFuture, ready};
use futures::{FutureExt, StreamExt};
use partitura_adapter_kit::{Claim, Claimed};
use partitura_broker::{Error, ErrorKind, Partition, Result, Timestamp, telemetry};
use tokio::time::{Instant, timeout_at};

use super::prefetch::{Ahead, Prefetch};
use super::replay::{Arrival, Replay};
use crate::acks::{Handle, Place, Unconfirmed};
use crate::client::Connection;
use crate::consumers::{self, Action, Delivery, HEARTBEAT};
use crate::core::Core;
use crate::deletions::Deletion;
use crate::topics::KnownTopic;
use crate::{error, names, wire};

const CLAIM: &str = "claim a partition";
const CONSUME: &str = "consume";

/// The time after which a silent consumer of the server counts as lost. Its heartbeats come more often, and a notice of
/// its deletion comes at once.
const MAX_SILENCE: Duration = Duration::from_secs(4 * HEARTBEAT.as_secs());
/// The time to wait for more messages of the previous owner, before the server is asked how many are left.
const REPLAY_WAIT: Duration = Duration::from_millis(50);
/// The number of messages that a claim may hold beside those that it was asked for. The server passes delayed messages
/// on before they are due, and messages behind them may come before them in the order of their key: if only delayed
/// messages were read, nobody would know.
const HELD_BACK: usize = 1_024;
/// The largest number of messages that are taken at once.
const MAX_BATCH: usize = 256;

/// The object of a claim, with the name of its consumer on the server.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// One partition of an ordered subscription.
    Partition { consumer: String, partition: Partition },
    /// All of a stream, for one listener.
    Stream { consumer: String },
}

impl Target {
    fn consumer(&self) -> &str {
        match self {
            Self::Partition { consumer, .. } | Self::Stream { consumer } => consumer,
        }
    }
}

/// A claim. Dropping it unsubscribes, and so gives everything unsettled to the next owner.
pub(crate) struct PushClaim {
    core: Arc<Core>,
    connection: Arc<Connection>,
    known: Arc<KnownTopic>,
    consumer: String,
    partition: Partition,
    ahead: usize,
    prefetch: Prefetch,
    /// The configuration of the consumer, as it was written last.
    config: Config,
    deletion: Deletion,
    /// The moment at which the server's consumer sent something last.
    heard_at: Instant,
    arriving: Subscriber,
    replay: Replay<Message>,
    /// The server had sent the messages up to this number when this claim began, to this owner or to earlier ones.
    sent_before: u64,
    /// Up to this number, the server may have delivered messages and forgotten that it did.
    doubted: u64,
    /// The last acknowledgement that is not confirmed.
    unconfirmed: Unconfirmed,
}

impl PushClaim {
    pub(crate) async fn claim(core: Arc<Core>, known: Arc<KnownTopic>, target: &Target, ahead: Ahead) -> Result<Self> {
        let connection = core.consuming.connection(CLAIM).await?;
        let ahead = Ahead { messages: ahead.messages + HELD_BACK, ..ahead };
        let name = target.consumer();
        let before = consumers::find(&connection, CLAIM, &known, name).await?;
        if before.as_ref().is_some_and(|info| info.push_bound) {
            return Err(busy(&known));
        }
        let doubt = consumers::doubt(&connection, CLAIM, &known, before.as_ref()).await?;
        let to = connection.client.new_inbox();
        let subscribed = connection.client.queue_subscribe(to.clone(), consumers::OWNER.to_owned()).await;
        let arriving = subscribed.map_err(|e| error::disconnected(CLAIM).because(e))?;
        let doubted = doubt.up_to;
        let deletion = connection.deletions().await?.watch(&known.stream, name);
        let prefetch = Prefetch::new(ahead);
        let delivery = Delivery { to: &to, ahead: prefetch.asked(), doubt };
        let (partition, config, action) = match target {
            Target::Partition { consumer, partition } => {
                let config = consumers::owned(&known, consumer.clone(), *partition, Some(delivery));
                (*partition, config, Action::Update)
            }
            Target::Stream { consumer } => {
                let all = names::subjects(core.topics.prefix(), &known.topic.name);
                (Partition(0), consumers::listener(&known, consumer.clone(), all, delivery), Action::CreateOrUpdate)
            }
        };
        let info = bind(&core, &connection, &known, &config, action).await?;
        Ok(Self {
            core,
            connection,
            known,
            consumer: name.to_owned(),
            partition,
            ahead: ahead.messages,
            prefetch,
            config,
            deletion,
            heard_at: Instant::now(),
            arriving,
            replay: Replay::new(info.num_ack_pending),
            sent_before: info.delivered.stream_sequence,
            doubted,
            unconfirmed: Unconfirmed::default(),
        })
    }

    /// Waits for messages and accepts them. If this future is dropped before it ends, it has taken none.
    async fn arrive(&mut self) -> Result<()> {
        let mut closed = self.core.closed();
        let limit = if self.replay.is_waiting() { Instant::now() + REPLAY_WAIT } else { self.heard_at + MAX_SILENCE };
        let arrived = tokio::select! {
            biased;
            () = closed.wait() => return Err(error::closed(CONSUME)),
            () = self.connection.lost() => return Err(error::disconnected(CONSUME)),
            () = self.deletion.happened() => return Err(self.silent()),
            arrived = timeout_at(limit, arrived(&mut self.arriving)) => arrived,
        };
        match arrived {
            Ok(Some(messages)) => {
                self.heard_at = Instant::now();
                messages.into_iter().for_each(|message| self.accept(message));
                self.adjust_prefetch();
            }
            Ok(None) => return Err(error::disconnected(CONSUME)),
            Err(_) if self.replay.is_waiting() => {
                let info = consumers::find(&self.connection, CONSUME, &self.known, &self.consumer).await?;
                self.replay.left(info.ok_or_else(|| self.silent())?.num_ack_pending);
            }
            Err(_) => return Err(self.silent()),
        }
        Ok(())
    }

    fn silent(&self) -> Error {
        let message = format!("the server's consumer {} is silent or gone", self.consumer);
        Error::new(ErrorKind::Disconnected, CONSUME, message).of(&self.known.topic.name)
    }

    fn accept(&mut self, message: Message) {
        // A heartbeat has nothing to acknowledge.
        let Some((place, reply)) = message.reply.clone().and_then(|reply| Some((Place::parse(&reply)?, reply))) else {
            return;
        };
        self.prefetch.came(message.length);
        if self.replay.arrive(place, message) == Arrival::Settled {
            self.connection.acks.acknowledge(vec![reply]);
        }
    }

    /// Asks the server to send more in advance, or less. The answer is not waited for: the next change is another
    /// request.
    fn adjust_prefetch(&mut self) {
        let Some(ahead) = self.prefetch.change() else { return };
        self.config.max_ack_pending = i64::try_from(ahead).unwrap_or(i64::MAX);
        if let Some(request) = consumers::update(&self.connection, &self.known, &self.config) {
            let ignored = self.connection.client.new_inbox().into();
            self.connection.acks.request(request.subject, ignored, request.payload);
        }
    }

    fn claimed(&self, place: Place, message: Message) -> Claimed<Handle> {
        let partition = names::partition(&message.subject).unwrap_or(self.partition);
        let redelivered = place.deliveries > 1 || place.sequence <= self.doubted;
        let wire::Delivered { message, reply } = wire::delivered(&self.known.topic.name, place.sequence, message);
        Claimed {
            partition,
            message,
            redelivered,
            handle: Handle { sequence: place.sequence, reply, stored: place.stored },
        }
    }
}

/// Asks the server to deliver to this claim, unless there is another owner.
async fn bind(
    core: &Core,
    connection: &Connection,
    known: &KnownTopic,
    config: &Config,
    action: Action,
) -> Result<Info> {
    let topic = &known.topic.name;
    let name = consumers::name(config);
    let refused = match consumers::write(connection, CLAIM, known, config, action).await? {
        Ok(info) => return Ok(info),
        Err(error) => error,
    };
    if refused.error_code() != ErrorCode::CONSUMER_NAME_EXIST {
        return Err(error::refused(CLAIM, topic, refused));
    }
    let owner = consumers::find(connection, CLAIM, known, name).await?;
    if owner.is_some_and(|owner| !owner.push_bound) && !core.has_warned.swap(true, Ordering::Relaxed) {
        // The other subscriber is no owner, since it is not in the queue group of owners. Or it has just gone away.
        tracing::warn!(
            target: telemetry::TARGET,
            %topic,
            consumer = name,
            "waiting for a partition that has no owner; if this lasts, end subscriptions to everything, as \
             `nats sub '>'`, which the server takes for its owner"
        );
    }
    Err(busy(known))
}

fn busy(known: &KnownTopic) -> Error {
    Error::new(ErrorKind::Busy, CLAIM, "another owns it").of(&known.topic.name)
}

/// Waits for messages, and takes those that have arrived. `None`: the subscription has ended.
async fn arrived(arriving: &mut Subscriber) -> Option<Vec<Message>> {
    let mut messages = Vec::new();
    futures::future::poll_fn(|context| {
        while messages.len() < MAX_BATCH {
            match arriving.poll_next_unpin(context) {
                Poll::Ready(Some(message)) => messages.push(message),
                Poll::Ready(None) if messages.is_empty() => return Poll::Ready(None),
                Poll::Pending if messages.is_empty() => return Poll::Pending,
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        Poll::Ready(Some(std::mem::take(&mut messages)))
    })
    .await
}

#[async_trait]
impl Claim for PushClaim {
    type Handle = Handle;

    async fn next(&mut self) -> Result<Vec<Claimed<Handle>>> {
        loop {
            let given = self.replay.give_out(self.ahead);
            if !given.is_empty() {
                return Ok(given.into_iter().map(|(place, message)| self.claimed(place, message)).collect());
            }
            self.arrive().await?;
        }
    }

    fn stored(&self, handle: &Handle) -> Option<Timestamp> {
        Some(handle.stored)
    }

    fn first_missing(&self, held_back: usize) -> BoxFuture<'static, Result<Option<Timestamp>>> {
        let unsettled = self.replay.unsettled();
        if unsettled >= self.prefetch.asked() && unsettled <= held_back {
            return ready(Ok(None)).boxed();
        }
        let after = self.replay.highest().max(self.sent_before);
        let (connection, known, subject) =
            (self.connection.clone(), self.known.clone(), self.config.filter_subject.clone());
        async move { consumers::next_stored(&connection, CONSUME, &known, &subject, after).await }.boxed()
    }

    fn settle(&mut self, handles: Vec<Handle>) {
        let replies: Vec<Subject> = handles
            .into_iter()
            .filter(|handle| self.replay.settle(handle.sequence))
            .map(|handle| handle.reply)
            .collect();
        self.unconfirmed.acknowledge(&self.connection.acks, replies);
    }

    async fn flush(&mut self) -> Result<()> {
        self.unconfirmed.flush(&self.connection.acks, &self.connection.client).await
    }

    async fn release(mut self) -> Result<()> {
        let flushed = self.flush().await;
        // The server handles this before later heartbeats of this member.
        let left = self.arriving.unsubscribe().await;
        left.map_err(|error| error::disconnected("release a partition").because(error))?;
        flushed
    }
}

impl fmt::Debug for PushClaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushClaim").field("consumer", &self.consumer).finish_non_exhaustive()
    }
}

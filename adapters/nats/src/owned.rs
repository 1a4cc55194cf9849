//! A partition in the hands of one owner.
//!
//! Its consumer on the server delivers to a subject of the owner's. Whoever wants the partition asks the server to deliver to
//! a subject of theirs instead; the server agrees only when nobody is subscribed to the old one any more, that is, when the
//! owner unsubscribed or its connection is gone, and then sends everything unacknowledged again. So there is never a second
//! owner, nothing has to expire, and no clock is asked.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::consumer::{Config, Info};
use async_nats::{Message, Subject, Subscriber};
use async_trait::async_trait;
use futures::StreamExt;
use partitura_adapter_kit::{Claim, Claimed};
use partitura_broker::{Error, ErrorKind, Partition, Result, Timestamp, telemetry};
use tokio::time::{Instant, timeout_at};

use crate::acks::{self, Handle, Place};
use crate::consumers::{self, Action, Delivery, HEARTBEAT};
use crate::deletions::Deletion;
use crate::link::Link;
use crate::nats::Core;
use crate::prefetch::{Ahead, Prefetch};
use crate::replay::{Arrival, Replay};
use crate::topics::Known;
use crate::{error, names, wire};

const CLAIM: &str = "claim a partition";
const CONSUME: &str = "consume";

/// How long the server's consumer may be silent. It says that it is there more often than that, and where it is deleted the
/// server says so at once.
const SILENCE: Duration = Duration::from_secs(4 * HEARTBEAT.as_secs());
/// How long is waited for more of what was left behind before the server is asked how much there is.
const PAUSE: Duration = Duration::from_millis(50);
/// How many messages are taken up at once.
const BATCH: usize = 256;

/// What is claimed, and how the server knows it.
#[derive(Debug, Clone)]
pub(crate) enum Of {
    /// One partition of an ordered subscription: its consumer.
    Partition(String, Partition),
    /// All of a stream, for one listener: its consumer.
    Stream(String),
}

/// A claim for as long as it is held. Dropping it unsubscribes, and thereby gives everything unsettled to the next owner.
pub(crate) struct Owned {
    core: Arc<Core>,
    link: Arc<Link>,
    known: Arc<Known>,
    consumer: String,
    partition: Partition,
    ahead: usize,
    prefetch: Prefetch,
    /// As it was written when the partition was claimed.
    config: Config,
    deletion: Deletion,
    /// When the server's consumer was heard last.
    heard: Instant,
    arriving: Subscriber,
    replay: Replay<Message>,
    /// Up to this number, the server may have delivered messages and forgotten it.
    doubted: u64,
    /// The last that was acknowledged and not confirmed.
    unconfirmed: Option<Subject>,
}

impl Owned {
    pub(crate) async fn claim(core: Arc<Core>, known: Arc<Known>, of: &Of, ahead: Ahead) -> Result<Self> {
        let link = core.consuming.link(CLAIM).await?;
        let name = match of {
            Of::Partition(name, _) | Of::Stream(name) => name.clone(),
        };
        let before = consumers::find(&link, CLAIM, &known, &name).await?;
        if before.as_ref().is_some_and(|info| info.push_bound) {
            return Err(busy(&known));
        }
        let doubt = consumers::doubt(&link, CLAIM, &known, before.as_ref()).await?;
        let to = link.client.new_inbox();
        let subscribed = link.client.queue_subscribe(to.clone(), consumers::OWNER.to_owned()).await;
        let arriving = subscribed.map_err(|e| error::disconnected(CLAIM).because(e))?;
        let doubted = doubt.up_to;
        let deletion = link.deletions().await?.of(&known.stream, &name);
        let prefetch = Prefetch::new(ahead);
        let delivery = Delivery { to: &to, ahead: prefetch.asked(), doubt };
        let (partition, config, action) = match of {
            Of::Partition(name, partition) => {
                let config = consumers::owned(&known, name.clone(), *partition, Some(delivery));
                (*partition, config, Action::Update)
            }
            Of::Stream(name) => {
                let all = names::subjects(core.topics.prefix(), &known.topic.name);
                (Partition(0), consumers::listener(&known, name.clone(), all, delivery), Action::Either)
            }
        };
        let info = bind(&core, &link, &known, &name, &config, action).await?;
        Ok(Self {
            core,
            link,
            known,
            consumer: name,
            partition,
            ahead: ahead.messages,
            prefetch,
            config,
            deletion,
            heard: Instant::now(),
            arriving,
            replay: Replay::new(info.num_ack_pending),
            doubted,
            unconfirmed: None,
        })
    }

    /// Waits for messages and takes them up. Dropped before it ends, it has taken nothing.
    async fn arrive(&mut self) -> Result<()> {
        let mut closed = self.core.closed();
        let limit = if self.replay.is_waiting() { Instant::now() + PAUSE } else { self.heard + SILENCE };
        let arrived = tokio::select! {
            biased;
            () = closed.wait() => return Err(error::closed(CONSUME)),
            () = self.link.lost() => return Err(error::disconnected(CONSUME)),
            () = self.deletion.happened() => return Err(self.silent()),
            arrived = timeout_at(limit, arrived(&mut self.arriving)) => arrived,
        };
        match arrived {
            Ok(Some(messages)) => {
                self.heard = Instant::now();
                messages.into_iter().for_each(|message| self.take_up(message));
                self.fetch();
            }
            Ok(None) => return Err(error::disconnected(CONSUME)),
            Err(_) if self.replay.is_waiting() => {
                let info = consumers::find(&self.link, CONSUME, &self.known, &self.consumer).await?;
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

    fn take_up(&mut self, message: Message) {
        // A heartbeat has nothing to acknowledge.
        let Some((place, reply)) = message.reply.clone().and_then(|reply| Some((Place::of(&reply)?, reply))) else {
            return;
        };
        self.prefetch.came(message.length);
        if self.replay.arrive(place, message) == Arrival::Settled {
            self.link.acks.acknowledge(vec![reply]);
        }
    }

    /// Has the server send more in advance, or less. Nobody waits for its answer: it is asked again when that is worth it.
    fn fetch(&mut self) {
        let Some(ahead) = self.prefetch.change() else { return };
        self.config.max_ack_pending = i64::try_from(ahead).unwrap_or(i64::MAX);
        if let Some((subject, payload)) = consumers::update(&self.link, &self.known, &self.config) {
            self.link.acks.ask(subject, self.link.client.new_inbox().into(), payload);
        }
    }

    fn claimed(&self, place: Place, message: Message) -> Claimed<Handle> {
        let partition = names::partition(&message.subject).unwrap_or(self.partition);
        let redelivered = place.deliveries > 1 || place.sequence <= self.doubted;
        let (message, reply) = wire::delivered(&self.known.topic.name, place.sequence, message);
        Claimed {
            partition,
            message,
            redelivered,
            handle: Handle { sequence: place.sequence, reply, stored: place.stored },
        }
    }
}

/// Has the server deliver to us, unless somebody else is there.
async fn bind(core: &Core, link: &Link, known: &Known, name: &str, config: &Config, action: Action) -> Result<Info> {
    let topic = &known.topic.name;
    let refused = match consumers::write(link, CLAIM, known, config, action).await? {
        Ok(info) => return Ok(info),
        Err(error) => error,
    };
    if refused.error_code() != ErrorCode::CONSUMER_NAME_EXIST {
        return Err(error::refused(CLAIM, topic, refused));
    }
    let owner = consumers::find(link, CLAIM, known, name).await?;
    if owner.is_some_and(|owner| !owner.push_bound) && !core.warned.swap(true, Ordering::Relaxed) {
        // Not an owner: those are in their queue group. Unless it went away just now.
        tracing::warn!(
            target: telemetry::TARGET,
            %topic,
            consumer = name,
            "a partition cannot be claimed although nobody owns it; if this lasts, end subscriptions to everything, as \
             `nats sub '>'`, which the server takes for its owner"
        );
    }
    Err(busy(known))
}

fn busy(known: &Known) -> Error {
    Error::new(ErrorKind::Busy, CLAIM, "another owns it").of(&known.topic.name)
}

/// What has arrived, at least one message; `None` where nothing will any more.
async fn arrived(arriving: &mut Subscriber) -> Option<Vec<Message>> {
    let mut messages = Vec::new();
    futures::future::poll_fn(|context| {
        while messages.len() < BATCH {
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
impl Claim for Owned {
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

    fn settle(&mut self, handles: Vec<Handle>) {
        let replies: Vec<Subject> = handles
            .into_iter()
            .filter(|handle| self.replay.settle(handle.sequence))
            .map(|handle| handle.reply)
            .collect();
        if let Some(last) = replies.last() {
            self.unconfirmed = Some(last.clone());
            self.link.acks.acknowledge(replies);
        }
    }

    async fn flush(&mut self) -> Result<()> {
        if let Some(last) = &self.unconfirmed {
            acks::confirm(&self.link, last.clone()).await?;
            self.unconfirmed = None;
        }
        Ok(())
    }

    async fn release(mut self) -> Result<()> {
        let flushed = self.flush().await;
        // Whatever this member says next comes behind it.
        let left = self.arriving.unsubscribe().await;
        left.map_err(|error| error::disconnected("release a partition").because(error))?;
        flushed
    }
}

impl fmt::Debug for Owned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owned").field("consumer", &self.consumer).finish_non_exhaustive()
    }
}

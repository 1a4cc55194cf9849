//! The claim of a member that competes for the single messages of a shared topic.
//!
//! All members request ("pull") messages from one consumer, each as many as it may hold. Every few seconds a member
//! tells the server that its messages are in progress. A message without such a sign goes to another member after
//! some time. Shared topics have no order that giving back could break.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::jetstream::consumer::pull::BatchConfig;
use async_nats::{Message, Subject, Subscriber};
use async_trait::async_trait;
use futures::{FutureExt, StreamExt};
use partitura_adapter_kit::{Claim, Claimed};
use partitura_broker::{Error, ErrorKind, Partition, Result, SubscriptionName};
use tokio::task::JoinHandle;
use tokio::time::{interval, timeout};

use super::prefetch::{Ahead, Prefetch};
use crate::acks::{Handle, Place, Unconfirmed};
use crate::client::Connection;
use crate::consumers::{self, Action, HELD_FOR};
use crate::core::Core;
use crate::topics::KnownTopic;
use crate::{error, names, wire};

const CONSUME: &str = "consume";

/// The time for which the server keeps a request for messages.
const REQUEST_EXPIRES: Duration = Duration::from_secs(30);
/// The time after which a request counts as lost that the server should have ended.
const REQUEST_LOST: Duration = Duration::from_secs(40);
/// The largest number of messages that are taken at once.
const MAX_BATCH: usize = 256;

/// The claim of one member. Dropping it gives its messages back.
pub(crate) struct PullClaim {
    core: Arc<Core>,
    connection: Arc<Connection>,
    known: Arc<KnownTopic>,
    consumer: String,
    prefetch: Prefetch,
    /// The subject to which requested messages come.
    inbox: Subject,
    arriving: Subscriber,
    /// The number of messages that were requested and have not come.
    requested: usize,
    held: Arc<Held>,
    /// Up to this number, the server may have delivered messages and forgotten that it did.
    doubted: u64,
    /// The last acknowledgement that is not confirmed.
    unconfirmed: Unconfirmed,
    signalling: JoinHandle<()>,
}

/// The messages that are delivered and not settled, by number, with the subjects to acknowledge them to.
#[derive(Debug, Default)]
struct Held(Mutex<HashMap<u64, Subject>>);

impl Held {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Subject>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> Vec<Subject> {
        self.lock().values().cloned().collect()
    }
}

impl PullClaim {
    pub(crate) async fn claim(
        core: Arc<Core>,
        known: Arc<KnownTopic>,
        subscription: &SubscriptionName,
        ahead: Ahead,
    ) -> Result<Self> {
        let connection = core.consuming.connection(CONSUME).await?;
        let consumer = names::shared_consumer(subscription);
        let before = consumers::find(&connection, CONSUME, &known, &consumer).await?;
        let doubt = consumers::doubt(&connection, CONSUME, &known, before.as_ref()).await?;
        let config = consumers::shared(&known, subscription, Some(&doubt));
        let written = consumers::write(&connection, CONSUME, &known, &config, Action::Update).await?;
        written.map_err(|e| error::refused(CONSUME, &known.topic.name, e))?;
        let inbox = Subject::from(connection.client.new_inbox());
        let subscribed = connection.client.subscribe(inbox.clone()).await;
        let arriving = subscribed.map_err(|e| error::disconnected(CONSUME).because(e))?;
        let held = Arc::new(Held::default());
        let signalling = tokio::spawn(signal_progress(connection.clone(), held.clone()));
        let (doubted, requested, unconfirmed) = (doubt.up_to, 0, Unconfirmed::default());
        let prefetch = Prefetch::new(ahead);
        Ok(Self {
            core,
            connection,
            known,
            consumer,
            prefetch,
            inbox,
            arriving,
            requested,
            held,
            doubted,
            unconfirmed,
            signalling,
        })
    }

    /// Requests as many messages as there is room for, unless these are few and others are requested already.
    fn request(&mut self) {
        let _ = self.prefetch.change();
        let ahead = self.prefetch.asked();
        let room = ahead.saturating_sub(self.held.lock().len() + self.requested);
        if room == 0 || (self.requested > 0 && 2 * room < ahead) {
            return;
        }
        let batch = BatchConfig { batch: room, expires: Some(REQUEST_EXPIRES), ..BatchConfig::default() };
        let Ok(payload) = serde_json::to_vec(&batch) else { return };
        let subject = format!("{}.CONSUMER.MSG.NEXT.{}.{}", self.connection.api, self.known.stream, self.consumer);
        self.connection.acks.request(subject.into(), self.inbox.clone(), payload.into());
        self.requested += room;
    }

    /// Accepts an arrival: a message to give out, or the server's status of a request.
    fn accept(&mut self, message: Message) -> Result<Option<Claimed<Handle>>> {
        if let Some(status) = message.status {
            return self.accept_status(status.as_u16(), &message).map(|()| None);
        }
        let Some((place, reply)) = message.reply.clone().and_then(|reply| Some((Place::parse(&reply)?, reply))) else {
            return Ok(None);
        };
        self.requested = self.requested.saturating_sub(1);
        self.prefetch.came(message.length);
        if self.held.lock().insert(place.sequence, reply).is_some() {
            // It is held here already: the server gave it to another member for want of a sign, and this is that
            // member.
            return Ok(None);
        }
        let redelivered = place.deliveries > 1 || place.sequence <= self.doubted;
        let wire::Delivered { message, reply } = wire::delivered(&self.known.topic.name, place.sequence, message);
        let handle = Handle { sequence: place.sequence, reply, stored: place.stored };
        Ok(Some(Claimed { partition: Partition(0), message, redelivered, handle }))
    }

    fn accept_status(&mut self, status: u16, message: &Message) -> Result<()> {
        let text = message.description.as_deref().unwrap_or_default();
        let unserved = message.headers.as_ref().and_then(|headers| headers.get("Nats-Pending-Messages"));
        match unserved.and_then(|count| count.as_str().parse::<usize>().ok()) {
            Some(count) => self.requested = self.requested.saturating_sub(count),
            None if status == 409 && text.contains("Deleted") => {
                let message = format!("the server's consumer {} was deleted", self.consumer);
                return Err(Error::new(ErrorKind::Disconnected, CONSUME, message).of(&self.known.topic.name));
            }
            // A request ended without its number of messages, as when the consumer's leader changed.
            None if status != 100 => self.requested = 0,
            None => {}
        }
        Ok(())
    }
}

/// Tells the server now and then that the held messages are in progress.
async fn signal_progress(connection: Arc<Connection>, held: Arc<Held>) {
    let mut interval = interval(HELD_FOR / 4);
    loop {
        interval.tick().await;
        let replies = held.all();
        if !replies.is_empty() {
            connection.acks.in_progress(replies);
        }
    }
}

#[async_trait]
impl Claim for PullClaim {
    type Handle = Handle;

    async fn next(&mut self) -> Result<Vec<Claimed<Handle>>> {
        let mut closed = self.core.closed();
        loop {
            self.request();
            let arrived = tokio::select! {
                biased;
                () = closed.wait() => return Err(error::closed(CONSUME)),
                () = self.connection.lost() => return Err(error::disconnected(CONSUME)),
                arrived = timeout(REQUEST_LOST, self.arriving.next()) => arrived,
            };
            let mut messages = Vec::new();
            match arrived {
                Ok(Some(first)) => messages.extend(self.accept(first)?),
                Ok(None) => return Err(error::disconnected(CONSUME)),
                Err(_) => self.requested = 0,
            }
            while messages.len() < MAX_BATCH
                && let Some(Some(more)) = self.arriving.next().now_or_never()
            {
                messages.extend(self.accept(more)?);
            }
            if !messages.is_empty() {
                return Ok(messages);
            }
        }
    }

    fn settle(&mut self, handles: Vec<Handle>) {
        let mut held = self.held.lock();
        let replies: Vec<Subject> = handles.into_iter().filter_map(|handle| held.remove(&handle.sequence)).collect();
        drop(held);
        self.unconfirmed.acknowledge(&self.connection.acks, replies);
        self.request();
    }

    async fn flush(&mut self) -> Result<()> {
        self.unconfirmed.flush(&self.connection.acks, &self.connection.client).await
    }

    async fn release(mut self) -> Result<()> {
        let flushed = self.flush().await;
        // This gives the other messages back.
        drop(self);
        flushed
    }
}

impl Drop for PullClaim {
    fn drop(&mut self) {
        self.signalling.abort();
        let arrived = std::iter::from_fn(|| self.arriving.next().now_or_never().flatten());
        let mut replies: Vec<Subject> = arrived.filter_map(|message| message.reply).collect();
        replies.extend(self.held.all());
        self.connection.acks.give_back(replies);
    }
}

impl fmt::Debug for PullClaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PullClaim").field("consumer", &self.consumer).finish_non_exhaustive()
    }
}

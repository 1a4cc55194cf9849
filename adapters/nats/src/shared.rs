//! One of those who compete for the single messages of a shared topic.
//!
//! All members draw from one consumer, each as much as it may hold. What a member holds it says that it is at work on, every
//! few seconds; what nobody has said so of for some time goes to another. There is no order here that giving back could break.

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

use crate::acks::{self, Handle, Place};
use crate::consumers::{self, Action, HELD_FOR};
use crate::link::Link;
use crate::nats::Core;
use crate::prefetch::{Ahead, Prefetch};
use crate::topics::Known;
use crate::{error, names, wire};

const CONSUME: &str = "consume";

/// How long the server keeps a request for messages.
const REQUEST: Duration = Duration::from_secs(30);
/// After which a request is taken for lost that the server should have ended.
const LOST: Duration = Duration::from_secs(40);
/// How many messages are taken up at once.
const BATCH: usize = 256;

/// One member's claim. Dropping it gives back what it holds.
pub(crate) struct Shared {
    core: Arc<Core>,
    link: Arc<Link>,
    known: Arc<Known>,
    consumer: String,
    prefetch: Prefetch,
    /// Where requested messages come to.
    inbox: Subject,
    arriving: Subscriber,
    /// How many were requested and have not come.
    requested: usize,
    held: Arc<Held>,
    doubted: u64,
    /// The last that was acknowledged and not confirmed.
    unconfirmed: Option<Subject>,
    keeping: JoinHandle<()>,
}

/// What is delivered and not settled, and where to speak about it.
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

impl Shared {
    pub(crate) async fn claim(
        core: Arc<Core>,
        known: Arc<Known>,
        subscription: &SubscriptionName,
        ahead: Ahead,
    ) -> Result<Self> {
        let link = core.consuming.link(CONSUME).await?;
        let consumer = names::shared_consumer(subscription);
        let before = consumers::find(&link, CONSUME, &known, &consumer).await?;
        let doubt = consumers::doubt(&link, CONSUME, &known, before.as_ref()).await?;
        let config = consumers::shared(&known, subscription, Some(&doubt));
        let written = consumers::write(&link, CONSUME, &known, &config, Action::Update).await?;
        written.map_err(|e| error::refused(CONSUME, &known.topic.name, e))?;
        let inbox = Subject::from(link.client.new_inbox());
        let subscribed = link.client.subscribe(inbox.clone()).await;
        let arriving = subscribed.map_err(|e| error::disconnected(CONSUME).because(e))?;
        let held = Arc::new(Held::default());
        let keeping = tokio::spawn(keep(link.clone(), held.clone()));
        let (doubted, requested, unconfirmed) = (doubt.up_to, 0, None);
        let prefetch = Prefetch::new(ahead);
        Ok(Self {
            core,
            link,
            known,
            consumer,
            prefetch,
            inbox,
            arriving,
            requested,
            held,
            doubted,
            unconfirmed,
            keeping,
        })
    }

    /// Requests as many as there is room for, unless that is hardly worth it.
    fn request(&mut self) {
        let _ = self.prefetch.change();
        let ahead = self.prefetch.asked();
        let room = ahead.saturating_sub(self.held.lock().len() + self.requested);
        if room == 0 || (self.requested > 0 && 2 * room < ahead) {
            return;
        }
        let batch = BatchConfig { batch: room, expires: Some(REQUEST), ..BatchConfig::default() };
        let Ok(payload) = serde_json::to_vec(&batch) else { return };
        let subject = format!("{}.CONSUMER.MSG.NEXT.{}.{}", self.link.api, self.known.stream, self.consumer);
        self.link.acks.ask(subject.into(), self.inbox.clone(), payload.into());
        self.requested += room;
    }

    /// Takes up what arrived: a message that is given out, or what the server says to a request.
    fn take_up(&mut self, message: Message) -> Result<Option<Claimed<Handle>>> {
        if let Some(status) = message.status {
            return self.told(status.as_u16(), &message).map(|()| None);
        }
        let Some((place, reply)) = message.reply.clone().and_then(|reply| Some((Place::of(&reply)?, reply))) else {
            return Ok(None);
        };
        self.requested = self.requested.saturating_sub(1);
        self.prefetch.came(message.length);
        if self.held.lock().insert(place.sequence, reply).is_some() {
            // We were silent for so long that the server gave it away, to us.
            return Ok(None);
        }
        let redelivered = place.deliveries > 1 || place.sequence <= self.doubted;
        let (message, reply) = wire::delivered(&self.known.topic.name, place.sequence, message);
        let handle = Handle { sequence: place.sequence, reply, stored: place.stored };
        Ok(Some(Claimed { partition: Partition(0), message, redelivered, handle }))
    }

    fn told(&mut self, status: u16, message: &Message) -> Result<()> {
        let text = message.description.as_deref().unwrap_or_default();
        let unserved = message.headers.as_ref().and_then(|headers| headers.get("Nats-Pending-Messages"));
        match unserved.and_then(|count| count.as_str().parse::<usize>().ok()) {
            Some(count) => self.requested = self.requested.saturating_sub(count),
            None if status == 409 && text.contains("Deleted") => {
                let message = format!("the server's consumer {} was deleted", self.consumer);
                return Err(Error::new(ErrorKind::Disconnected, CONSUME, message).of(&self.known.topic.name));
            }
            // A request ended and says no more, as when the consumer's leader changed.
            None if status != 100 => self.requested = 0,
            None => {}
        }
        Ok(())
    }
}

/// Says again and again that what is held is being worked on.
async fn keep(link: Arc<Link>, held: Arc<Held>) {
    let mut beat = interval(HELD_FOR / 4);
    loop {
        beat.tick().await;
        let replies = held.all();
        if !replies.is_empty() {
            link.acks.keep(replies);
        }
    }
}

#[async_trait]
impl Claim for Shared {
    type Handle = Handle;

    async fn next(&mut self) -> Result<Vec<Claimed<Handle>>> {
        let mut closed = self.core.closed();
        loop {
            self.request();
            let arrived = tokio::select! {
                biased;
                () = closed.wait() => return Err(error::closed(CONSUME)),
                () = self.link.lost() => return Err(error::disconnected(CONSUME)),
                arrived = timeout(LOST, self.arriving.next()) => arrived,
            };
            let mut messages = Vec::new();
            match arrived {
                Ok(Some(first)) => messages.extend(self.take_up(first)?),
                Ok(None) => return Err(error::disconnected(CONSUME)),
                Err(_) => self.requested = 0,
            }
            while messages.len() < BATCH
                && let Some(Some(more)) = self.arriving.next().now_or_never()
            {
                messages.extend(self.take_up(more)?);
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
        if let Some(last) = replies.last() {
            self.unconfirmed = Some(last.clone());
            self.link.acks.acknowledge(replies);
        }
        self.request();
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
        // Dropped, it gives back the rest.
        drop(self);
        flushed
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.keeping.abort();
        let arrived = std::iter::from_fn(|| self.arriving.next().now_or_never().flatten());
        let mut replies: Vec<Subject> = arrived.filter_map(|message| message.reply).collect();
        replies.extend(self.held.all());
        self.link.acks.give_back(replies);
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("consumer", &self.consumer).finish_non_exhaustive()
    }
}

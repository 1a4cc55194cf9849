use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use partitura_adapter_kit::Claims;
use partitura_broker::{ConsumerOptions, Error, Ordering, Partition, Result, SubscriptionName, TopicName};

use crate::claim::LineClaim;
use crate::client::Session;
use crate::core::Core;
use crate::lease::{Lease, WantedLine};
use crate::notices::{self, Notice, NoticeReceiver, Notices};
use crate::wire::Amount;
use crate::{error, names};

const TELL: &str = "tell the other members";
const HEAR: &str = "hear the other members";

/// The claims of a member of an ordered or shared subscription, or of the one listener of a broadcast.
#[derive(Debug)]
pub(crate) struct TemplateClaims {
    core: Arc<Core>,
    notices: Arc<Notices>,
    audience: Audience,
    /// The bytes of each line that may be here, given out or not: of all partitions together, the credit.
    bytes: usize,
    /// The session of all claims of this member. All are lost with it, and it is never revived.
    session: tokio::sync::Mutex<Arc<Session>>,
    heartbeats: Option<Heartbeats>,
    /// A listener's line exists from the moment when it was opened, not from the first read.
    opened: Mutex<Option<LineClaim>>,
}

/// The heartbeats between the members of a subscription.
#[derive(Debug)]
struct Heartbeats {
    /// The key of their notices.
    key: String,
    received: tokio::sync::Mutex<NoticeReceiver>,
}

/// The receivers of the messages of a topic.
#[derive(Debug, Clone)]
pub(crate) enum Audience {
    /// An ordered subscription: a partition has one owner.
    Ordered(SubscriptionName),
    /// A shared subscription: members compete for single messages.
    Shared(SubscriptionName),
    /// A listener with a line of its own.
    Broadcast,
}

impl TemplateClaims {
    pub(crate) fn new(
        core: Arc<Core>,
        notices: Arc<Notices>,
        session: Arc<Session>,
        audience: Audience,
        options: &ConsumerOptions,
        ordering: Ordering,
    ) -> Self {
        let heartbeats = match &audience {
            Audience::Ordered(name) | Audience::Shared(name) => {
                let key = names::heartbeats(name, &options.topics);
                Some(Heartbeats { received: tokio::sync::Mutex::new(notices.receiver(&key)), key })
            }
            Audience::Broadcast => None,
        };
        let session = tokio::sync::Mutex::new(session);
        let lines = if matches!(audience, Audience::Ordered(_)) { ordering.partitions().max(1) } else { 1 };
        let bytes = options.credit.bytes.get() / lines as usize;
        Self { core, notices, audience, bytes, session, heartbeats, opened: Mutex::new(None) }
    }

    /// Opens the line of a listener now.
    pub(crate) async fn open(&self, topic: &TopicName, ahead: usize) -> Result<()> {
        let claim = self.claim(topic, Partition(0), ahead).await?;
        *self.opened.lock().unwrap_or_else(PoisonError::into_inner) = Some(claim);
        Ok(())
    }

    async fn session(&self, operation: &'static str) -> Result<Arc<Session>> {
        let mut session = self.session.lock().await;
        if session.has_ended() {
            *session = Session::open(&self.core.client, operation).await?;
        }
        Ok(session.clone())
    }
}

#[async_trait]
impl Claims for TemplateClaims {
    type Claim = LineClaim;

    async fn claim(&self, topic: &TopicName, partition: Partition, ahead: usize) -> Result<LineClaim> {
        if let Some(opened) = self.opened.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Ok(opened);
        }
        let (session, topic, audience) = (self.session("claim").await?, topic.clone(), self.audience.clone());
        let is_ordered = matches!(audience, Audience::Ordered(_));
        // A task of its own ends also if no caller waits for it any more; then its lease is dropped.
        let leasing = tokio::spawn(async move {
            let lease = match audience {
                Audience::Broadcast => Lease::open(session, topic.to_string()).await?,
                Audience::Ordered(subscription) | Audience::Shared(subscription) => {
                    Lease::claim(session, WantedLine { topic: topic.clone(), subscription, partition, is_ordered })
                        .await?
                }
            };
            Ok::<_, Error>((lease, topic))
        });
        let (lease, topic) = leasing.await.map_err(|_| error::closed("claim"))??;
        let ahead = Amount { messages: ahead, bytes: self.bytes.max(1) };
        Ok(LineClaim::new(self.core.clone(), &self.notices, lease, topic, ahead))
    }

    async fn send_heartbeat(&self, heartbeat: Bytes) -> Result<()> {
        let Some(Heartbeats { key, .. }) = &self.heartbeats else { return Ok(()) };
        let text = heartbeat.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        self.session(TELL).await?.ask(TELL, notices::notify(key, &text)).arrive().await.map(drop)
    }

    async fn next_heartbeat(&self) -> Result<Bytes> {
        let Some(Heartbeats { received, .. }) = &self.heartbeats else { return std::future::pending().await };
        let mut received = received.lock().await;
        loop {
            let notice = tokio::select! {
                () = self.core.client.closed() => return Err(error::closed(HEAR)),
                notice = received.next() => notice,
            };
            match notice {
                Notice::Missed => return Err(error::disconnected(HEAR)),
                Notice::Text(text) => match decode(&text) {
                    Some(heartbeat) => return Ok(heartbeat),
                    None => tracing::debug!("ignoring a heartbeat that this adapter did not send"),
                },
            }
        }
    }
}

fn decode(hex: &str) -> Option<Bytes> {
    let (pairs, _) = hex.as_bytes().as_chunks::<2>();
    pairs.iter().map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

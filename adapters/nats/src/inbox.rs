//! Replies by core NATS: at most once, in memory.

use std::fmt;
use std::sync::Arc;

use async_nats::Subscriber;
use async_trait::async_trait;
use futures::StreamExt;
use partitura_broker::{Error, ErrorKind, Inbox, InboxAddress, Message, Result, TopicName};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::task::JoinHandle;

use crate::link::Link;
use crate::nats::Core;
use crate::{error, wire};

/// How many replies may wait to be read.
const CAPACITY: usize = 1_024;
/// What every address begins with. A reply goes nowhere else: an address is what some request said, and must not become a
/// way to publish to any subject there is.
const PREFIX: &str = "_INBOX.partitura.";

pub(crate) struct NatsInbox {
    core: Arc<Core>,
    address: InboxAddress,
    topic: TopicName,
    open: Open,
}

/// As long as one link lasts.
struct Open {
    link: Arc<Link>,
    /// Drops the oldest when it is full.
    replies: broadcast::Receiver<async_nats::Message>,
    reader: JoinHandle<()>,
}

impl NatsInbox {
    pub(crate) async fn open(core: Arc<Core>) -> Result<Self> {
        let link = core.consuming.link("open an inbox").await?;
        let address = format!("{PREFIX}{}", InboxAddress::secret());
        // Replies have no topic of their own.
        let topic = TopicName::new("inbox")?;
        let open = Open::new(link, &address).await?;
        Ok(Self { core, address: InboxAddress::new(address), topic, open })
    }
}

impl Open {
    async fn new(link: Arc<Link>, address: &str) -> Result<Self> {
        let lost = |error| error::disconnected("open an inbox").because(error);
        let subscriber = link.client.subscribe(address.to_owned()).await.map_err(lost)?;
        // Replies come over other connections: the server has to know of us before anybody learns the address.
        link.arrived("open an inbox").await?;
        let (sender, replies) = broadcast::channel(CAPACITY);
        let reader = tokio::spawn(read(subscriber, sender));
        Ok(Self { link, replies, reader })
    }
}

async fn read(mut subscriber: Subscriber, replies: broadcast::Sender<async_nats::Message>) {
    while let Some(message) = subscriber.next().await {
        if replies.send(message).is_err() {
            return;
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

#[async_trait]
impl Inbox for NatsInbox {
    fn address(&self) -> &InboxAddress {
        &self.address
    }

    async fn next(&mut self) -> Result<Message> {
        if !self.open.link.is_alive() {
            let link = self.core.consuming.link("read replies").await?;
            self.open = Open::new(link, self.address.as_str()).await?;
        }
        let mut closed = self.core.closed();
        loop {
            let received = tokio::select! {
                biased;
                () = closed.wait() => return Err(error::closed("read replies")),
                () = self.open.link.lost() => return Err(error::disconnected("read replies")),
                received = self.open.replies.recv() => received,
            };
            match received {
                Ok(reply) => match wire::message(&self.topic, reply.headers.as_ref(), reply.payload) {
                    Ok(message) => return Ok(message),
                    Err(reason) => tracing::debug!(reason, "a reply that is not one of ours"),
                },
                Err(RecvError::Lagged(missed)) => tracing::debug!(missed, "replies were not read in time"),
                Err(RecvError::Closed) => return Err(error::disconnected("read replies")),
            }
        }
    }
}

/// Sends a reply. An address that nobody listens to, or that is none, is not an error.
pub(crate) async fn reply(link: &Link, address: &InboxAddress, message: Message) -> Result<()> {
    let to = address.as_str();
    if !to.strip_prefix(PREFIX).is_some_and(InboxAddress::is_secret) {
        tracing::warn!("a reply was asked for at an address that is no inbox; it is not sent");
        return Ok(());
    }
    let headers = wire::headers(&message);
    if message.payload.len() + wire::OVERHEAD > link.info.max_payload {
        let text = format!("a reply of {} bytes, the server takes {}", message.payload.len(), link.info.max_payload);
        return Err(Error::new(ErrorKind::PayloadTooLarge, "reply", text));
    }
    let sent = link.client.publish_with_headers(to.to_owned(), headers, message.payload).await;
    sent.map_err(|error| error::disconnected("reply").because(error))
}

impl fmt::Debug for NatsInbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsInbox").field("address", &self.address).finish_non_exhaustive()
    }
}

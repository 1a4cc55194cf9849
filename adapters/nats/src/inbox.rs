//! Replies, by core NATS: at most once, in memory.

use std::fmt;
use std::sync::Arc;

use async_nats::Subscriber;
use async_trait::async_trait;
use futures::StreamExt;
use partitura_broker::{Error, ErrorKind, Inbox, InboxAddress, Message, Result, TopicName};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::task::JoinHandle;

use crate::client::Connection;
use crate::core::Core;
use crate::{error, names, wire};

/// The number of replies that may wait to be read. Beyond it the oldest are dropped.
const CAPACITY: usize = 1_024;
pub(crate) struct NatsInbox {
    core: Arc<Core>,
    address: InboxAddress,
    topic: TopicName,
    open: Open,
}

/// The subscription to replies during one connection.
struct Open {
    connection: Arc<Connection>,
    /// Drops the oldest reply when it is full.
    replies: broadcast::Receiver<async_nats::Message>,
    reader: JoinHandle<()>,
}

impl NatsInbox {
    pub(crate) async fn open(core: Arc<Core>) -> Result<Self> {
        let connection = core.consuming.connection("open an inbox").await?;
        let address = names::new_inbox();
        // Replies have no topic of their own.
        let topic = TopicName::new("inbox")?;
        let open = Open::new(connection, &address).await?;
        Ok(Self { core, address: InboxAddress::new(address), topic, open })
    }
}

impl Open {
    async fn new(connection: Arc<Connection>, address: &str) -> Result<Self> {
        let lost = |error| error::disconnected("open an inbox").because(error);
        let subscriber = connection.client.subscribe(address.to_owned()).await.map_err(lost)?;
        // Replies come over other connections: the server must know this subscription before a caller learns the
        // address.
        connection.arrived("open an inbox").await?;
        let (sender, replies) = broadcast::channel(CAPACITY);
        let reader = tokio::spawn(read(subscriber, sender));
        Ok(Self { connection, replies, reader })
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
        if !self.open.connection.is_alive() {
            let connection = self.core.consuming.connection("read replies").await?;
            self.open = Open::new(connection, self.address.as_str()).await?;
        }
        let mut closed = self.core.closed();
        loop {
            let received = tokio::select! {
                biased;
                () = closed.wait() => return Err(error::closed("read replies")),
                () = self.open.connection.lost() => return Err(error::disconnected("read replies")),
                received = self.open.replies.recv() => received,
            };
            match received {
                Ok(reply) => match wire::message(&self.topic, reply.headers.as_ref(), reply.payload) {
                    Ok(message) => return Ok(message),
                    Err(reason) => tracing::debug!(reason, "ignoring a reply that Partitura did not send"),
                },
                Err(RecvError::Lagged(missed)) => tracing::debug!(missed, "replies were not read in time"),
                Err(RecvError::Closed) => return Err(error::disconnected("read replies")),
            }
        }
    }
}

/// Sends a reply. It is no error if the inbox is gone, or the address is none of an inbox.
pub(crate) async fn reply(connection: &Connection, address: &InboxAddress, message: Message) -> Result<()> {
    let to = address.as_str();
    if !names::is_inbox(to) {
        tracing::warn!("not sending a reply, since its address is no inbox");
        return Ok(());
    }
    let headers = wire::headers(&message);
    if message.payload.len() + wire::OVERHEAD > connection.info.max_payload {
        let text =
            format!("a reply of {} bytes, the server takes {}", message.payload.len(), connection.info.max_payload);
        return Err(Error::new(ErrorKind::PayloadTooLarge, "reply", text));
    }
    let sent = connection.client.publish_with_headers(to.to_owned(), headers, message.payload).await;
    sent.map_err(|error| error::disconnected("reply").because(error))
}

impl fmt::Debug for NatsInbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsInbox").field("address", &self.address).finish_non_exhaustive()
    }
}

//! Notices of deleted consumers. The server publishes them to all that listen. The owner of a consumer learns of its
//! deletion in no other way.

use async_nats::{Client, Message, Subscriber};
use futures::StreamExt;
use partitura_broker::Result;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

use crate::error;

/// The subjects of consumers, and of streams with all their consumers: `…STREAM.CONSUMER` and `…STREAM`.
const CONSUMERS: &str = "$JS.EVENT.ADVISORY.CONSUMER.DELETED.";
const STREAMS: &str = "$JS.EVENT.ADVISORY.STREAM.DELETED.";
/// The number of notices that may wait to be read. A reader that misses some takes its own consumer for deleted.
const CAPACITY: usize = 256;

/// The deletions during one connection.
#[derive(Debug)]
pub(crate) struct Deletions {
    notices: broadcast::Sender<String>,
    reader: JoinHandle<()>,
}

/// Waits for the deletion of one consumer.
#[derive(Debug)]
pub(crate) struct Deletion {
    notices: broadcast::Receiver<String>,
    consumer: String,
    stream: String,
}

impl Deletions {
    pub(crate) async fn open(client: &Client) -> Result<Self> {
        let lost = |error| error::disconnected("listen to deletions").because(error);
        let consumers = client.subscribe(format!("{CONSUMERS}>")).await.map_err(lost)?;
        let streams = client.subscribe(format!("{STREAMS}>")).await.map_err(lost)?;
        let (notices, _) = broadcast::channel(CAPACITY);
        let reader = tokio::spawn(read(consumers, streams, notices.clone()));
        Ok(Self { notices, reader })
    }

    /// Watches for the deletion of a consumer, or of its stream, from now on.
    pub(crate) fn watch(&self, stream: &str, consumer: &str) -> Deletion {
        let consumer = format!("{CONSUMERS}{stream}.{consumer}");
        Deletion { notices: self.notices.subscribe(), consumer, stream: format!("{STREAMS}{stream}") }
    }
}

impl Drop for Deletions {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Deletion {
    /// Waits until the consumer was deleted, or may have been. Safe to drop and call again.
    pub(crate) async fn happened(&mut self) {
        loop {
            match self.notices.recv().await {
                Ok(deleted) if deleted != self.consumer && deleted != self.stream => {}
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
                _ => return,
            }
        }
    }
}

async fn read(consumers: Subscriber, streams: Subscriber, notices: broadcast::Sender<String>) {
    let mut deleted = futures::stream::select(consumers, streams);
    while let Some(Message { subject, .. }) = deleted.next().await {
        // No claim may exist at the moment.
        let _ = notices.send(subject.into_string());
    }
}

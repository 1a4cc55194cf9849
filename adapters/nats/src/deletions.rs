//! Consumers that somebody deletes: the server says so to all who listen, and to the owner of one it says nothing else.

use async_nats::{Client, Message, Subscriber};
use futures::StreamExt;
use partitura_broker::Result;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

use crate::error;

/// The subjects of consumers, and of streams with all their consumers: `…STREAM.CONSUMER` and `…STREAM`.
const CONSUMERS: &str = "$JS.EVENT.ADVISORY.CONSUMER.DELETED.";
const STREAMS: &str = "$JS.EVENT.ADVISORY.STREAM.DELETED.";
/// How many may wait to be looked at. Who misses some takes its own for one of them.
const CAPACITY: usize = 256;

/// What is deleted, for as long as a link lasts.
#[derive(Debug)]
pub(crate) struct Deletions {
    told: broadcast::Sender<String>,
    reader: JoinHandle<()>,
}

/// Waits for the deletion of one consumer.
#[derive(Debug)]
pub(crate) struct Deletion {
    told: broadcast::Receiver<String>,
    consumer: String,
    stream: String,
}

impl Deletions {
    pub(crate) async fn open(client: &Client) -> Result<Self> {
        let lost = |error| error::disconnected("listen to deletions").because(error);
        let consumers = client.subscribe(format!("{CONSUMERS}>")).await.map_err(lost)?;
        let streams = client.subscribe(format!("{STREAMS}>")).await.map_err(lost)?;
        let (told, _) = broadcast::channel(CAPACITY);
        let reader = tokio::spawn(read(consumers, streams, told.clone()));
        Ok(Self { told, reader })
    }

    pub(crate) fn of(&self, stream: &str, consumer: &str) -> Deletion {
        let consumer = format!("{CONSUMERS}{stream}.{consumer}");
        Deletion { told: self.told.subscribe(), consumer, stream: format!("{STREAMS}{stream}") }
    }
}

impl Drop for Deletions {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Deletion {
    /// Returns when it was, or may have been. Safe to drop and call again.
    pub(crate) async fn happened(&mut self) {
        loop {
            match self.told.recv().await {
                Ok(deleted) if deleted != self.consumer && deleted != self.stream => {}
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
                _ => return,
            }
        }
    }
}

async fn read(consumers: Subscriber, streams: Subscriber, told: broadcast::Sender<String>) {
    let mut deleted = futures::stream::select(consumers, streams);
    while let Some(Message { subject, .. }) = deleted.next().await {
        // Nobody may have a claim at the moment.
        let _ = told.send(subject.into_string());
    }
}

use std::sync::Arc;
use std::time::Duration;

use partitura_broker::{Error, ErrorKind, Result};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::client::{Connector, Senders, uncancelled};
use crate::wire::WireMessage;

/// The limit for the broker to take messages that are worth something only now.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends messages without waiting for confirms: replies and heartbeats.
#[derive(Debug)]
pub(crate) struct Post {
    connector: Arc<Connector>,
    open: Arc<Mutex<Option<Senders>>>,
}

impl Post {
    pub(crate) fn new(connector: Arc<Connector>) -> Self {
        Self { connector, open: Arc::default() }
    }

    /// Sends each message to its own address, by the link for it. Of an address that does not exist, nobody hears.
    pub(crate) async fn send(
        &self,
        operation: &'static str,
        messages: Vec<(Option<String>, WireMessage)>,
    ) -> Result<()> {
        let (connector, open) = (self.connector.clone(), self.open.clone());
        uncancelled(async move {
            let mut open = open.lock().await;
            // If this fails, the links go.
            let mut senders = match open.take() {
                Some(senders) => senders,
                None => Senders::open(&connector, operation).await?,
            };
            for (link, message) in messages {
                let sender = senders.to(operation, link.as_deref()).await?;
                // They are not sent settled: the broker would answer a wrong address by ending the link.
                let sent = timeout(SEND_TIMEOUT, sender.send_batchable(message)).await.map_err(|_| {
                    Error::new(ErrorKind::Throttled, operation, "the broker takes no messages; see its log")
                })?;
                drop(sent.map_err(|error| connector.explain(operation, error))?);
            }
            *open = Some(senders);
            Ok(())
        })
        .await
    }
}

use std::sync::Arc;
use std::time::Duration;

use fe2o3_amqp::Sender;
use fe2o3_amqp::session::SessionHandle;
use partitura_broker::{Error, ErrorKind, Result};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::client::{Connector, sender, uncancelled};
use crate::wire::Outgoing;

/// The limit for the broker to take messages that are worth something only now.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends messages without waiting for confirms: replies and heartbeats.
#[derive(Debug)]
pub(crate) struct Post {
    connector: Arc<Connector>,
    open: Arc<Mutex<Option<Link>>>,
}

/// A sender, and the session that it is in.
type Link = (SessionHandle<()>, Sender);

impl Post {
    pub(crate) fn new(connector: Arc<Connector>) -> Self {
        Self { connector, open: Arc::default() }
    }

    /// Sends each message to its own address. Of an address that does not exist, nobody hears.
    pub(crate) async fn send(&self, operation: &'static str, messages: Vec<Outgoing>) -> Result<()> {
        let (connector, open) = (self.connector.clone(), self.open.clone());
        uncancelled(async move {
            let mut open = open.lock().await;
            // If this fails, the link goes.
            let (session, mut sender) = match open.take() {
                Some(link) => link,
                None => {
                    let mut session = connector.session(operation).await?;
                    let sender = sender(&mut session, operation, None).await?;
                    (session, sender)
                }
            };
            for message in messages {
                // They are not sent settled: the broker would answer a wrong address by ending the link.
                let sent = timeout(SEND_TIMEOUT, sender.send_batchable(message)).await.map_err(|_| {
                    Error::new(ErrorKind::Throttled, operation, "the broker takes no messages; see its log")
                })?;
                drop(sent.map_err(|error| connector.explain(operation, error))?);
            }
            *open = Some((session, sender));
            Ok(())
        })
        .await
    }
}

//! Replies: an inbox is a line whose topic is its address, so that it needs nothing else.

use std::sync::Arc;

use async_trait::async_trait;
use partitura_adapter_kit::{Backoff, Claim};
use partitura_broker::{Inbox, InboxAddress, Message, Partition, Result, TopicName, telemetry};
use sqlx::PgConnection;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use uuid::Uuid;

use crate::claim::{Lease, LineClaim};
use crate::error;
use crate::session::Session;
use crate::template::{Core, SYSTEM};
use crate::wire;

/// How many replies may wait to be read; then the oldest are dropped.
const CAPACITY: usize = 1_024;
/// No name of a topic begins so: a reply goes to an inbox, or nowhere.
const PREFIX: &str = "~";

#[derive(Debug)]
pub(crate) struct TemplateInbox {
    core: Arc<Core>,
    address: InboxAddress,
    replies: broadcast::Receiver<Message>,
    reading: JoinHandle<()>,
}

impl TemplateInbox {
    pub(crate) async fn open(core: Arc<Core>) -> Result<Self> {
        let address = format!("{PREFIX}{}", Uuid::now_v7());
        let claim = listen(&core, &address).await?;
        let (sender, replies) = broadcast::channel(CAPACITY);
        let reading = tokio::spawn(read(core.clone(), address.clone(), claim, sender));
        Ok(Self { core, address: InboxAddress::new(address), replies, reading })
    }
}

async fn listen(core: &Arc<Core>, address: &str) -> Result<LineClaim> {
    let session = Arc::new(Session::open(&core.host, "open an inbox").await?);
    let lease = Lease::open(&session, address).await?;
    // Replies have no topic of their own.
    Ok(LineClaim::new(core.clone(), lease, TopicName::new("inbox")?, CAPACITY))
}

/// Takes replies as they come, whether they are read or not, for as long as the inbox is there.
async fn read(core: Arc<Core>, address: String, mut claim: LineClaim, replies: broadcast::Sender<Message>) {
    let mut attempt = 0;
    loop {
        let lost = match claim.next().await {
            Ok(claimed) => {
                attempt = 0;
                claim.settle(claimed.iter().map(|claimed| claimed.handle).collect());
                for reply in claimed {
                    // Without a receiver, this task is about to end.
                    let _ = replies.send(reply.message);
                }
                continue;
            }
            Err(error) => error,
        };
        let mut lost = Some(lost);
        while let Some(error) = lost {
            if core.host.is_closed() {
                return;
            }
            attempt += 1;
            telemetry::reconnecting(SYSTEM, &error, attempt);
            sleep(Backoff::default().delay(attempt, 0)).await;
            lost = listen(&core, &address).await.map(|new| claim = new).err();
        }
    }
}

/// Sends replies. An address that is gone has no line, and the reply goes nowhere.
pub(crate) async fn reply(connection: &mut PgConnection, replies: Vec<(InboxAddress, Message)>) -> sqlx::Result<()> {
    let to_inboxes = replies.iter().filter(|(address, _)| address.as_str().starts_with(PREFIX));
    let rows: Vec<_> = to_inboxes.map(|(address, message)| (address.as_str(), Partition(0), message)).collect();
    if rows.is_empty() { Ok(()) } else { wire::publish(connection, &rows).await }
}

#[async_trait]
impl Inbox for TemplateInbox {
    fn address(&self) -> &InboxAddress {
        &self.address
    }

    async fn next(&mut self) -> Result<Message> {
        loop {
            let received = tokio::select! {
                biased;
                () = self.core.host.closed() => return Err(error::closed("read replies")),
                received = self.replies.recv() => received,
            };
            match received {
                Ok(reply) => return Ok(reply),
                Err(RecvError::Lagged(missed)) => tracing::debug!(missed, "replies were not read in time"),
                Err(RecvError::Closed) => return Err(error::disconnected("read replies")),
            }
        }
    }
}

impl Drop for TemplateInbox {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

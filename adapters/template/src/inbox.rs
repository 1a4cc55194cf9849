//! Replies. An inbox is a line whose topic is the inbox's address, and needs no other tables.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use partitura_adapter_kit::Claim;
use partitura_broker::{Inbox, InboxAddress, Message, Partition, Result, TopicName, telemetry};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::claim::LineClaim;
use crate::client::Session;
use crate::core::{Core, SYSTEM};
use crate::lease::Lease;
use crate::notices::Notices;
use crate::wire::{Amount, Row};
use crate::{error, names};

/// The number of replies that may wait to be read. Beyond it the oldest are dropped.
const CAPACITY: usize = 1_024;
/// The bytes of replies that are read at once.
const READ_BYTES: usize = 16 << 20;
/// The wait before listening again.
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(crate) struct TemplateInbox {
    core: Arc<Core>,
    address: InboxAddress,
    replies: broadcast::Receiver<Message>,
    reading: JoinHandle<()>,
}

impl TemplateInbox {
    pub(crate) async fn open(core: Arc<Core>, notices: Arc<Notices>) -> Result<Self> {
        let address = names::new_inbox();
        let (sender, replies) = broadcast::channel(CAPACITY);
        let reader = Reader { core: core.clone(), notices, address: address.clone(), replies: sender };
        let claim = reader.listen().await?;
        let reading = tokio::spawn(reader.read(claim));
        Ok(Self { core, address: InboxAddress::new(address), replies, reading })
    }
}

/// Takes replies as they come, read or not, while the inbox exists.
struct Reader {
    core: Arc<Core>,
    notices: Arc<Notices>,
    address: String,
    replies: broadcast::Sender<Message>,
}

impl Reader {
    async fn listen(&self) -> Result<LineClaim> {
        let session = Session::open(&self.core.client, "open an inbox").await?;
        let lease = Lease::open(session, self.address.clone()).await?;
        let ahead = Amount { messages: CAPACITY, bytes: READ_BYTES };
        // Replies have no topic of their own.
        Ok(LineClaim::new(self.core.clone(), &self.notices, lease, TopicName::new("inbox")?, ahead))
    }

    async fn read(self, first: LineClaim) {
        let mut first = Some(first);
        for attempt in 1.. {
            let reading = async {
                let mut claim = match first.take() {
                    Some(claim) => claim,
                    None => self.listen().await?,
                };
                self.pass_on(&mut claim).await
            };
            if let Err(error) = reading.await {
                if self.core.client.is_closed() {
                    return;
                }
                telemetry::reconnecting(SYSTEM, &error, attempt);
            }
            sleep(PAUSE).await;
        }
    }

    /// Passes replies on until the claim is lost.
    async fn pass_on(&self, claim: &mut LineClaim) -> Result<()> {
        loop {
            let claimed = claim.next().await?;
            claim.settle(claimed.iter().map(|claimed| claimed.handle).collect());
            for reply in claimed {
                // Without a receiver this task will soon end.
                let _ = self.replies.send(reply.message);
            }
        }
    }
}

/// Returns the replies that go to inboxes, as rows. A reply to another address, or to an inbox that is gone, is
/// dropped.
pub(crate) fn rows(replies: &[(InboxAddress, Message)]) -> Vec<Row<'_>> {
    let to_inboxes = replies.iter().filter(|(address, _)| names::is_inbox(address.as_str()));
    to_inboxes.map(|(address, message)| Row { address: address.as_str(), partition: Partition(0), message }).collect()
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
                () = self.core.client.closed() => return Err(error::closed("read replies")),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_goes_to_an_inbox_or_nowhere() {
        let inbox = names::new_inbox();
        let message = || Message::new(TopicName::new("t").expect("a name"), "id", "");
        let to = |address: &str| (InboxAddress::new(address), message());
        let replies = [to(&inbox), to("orders"), to("~"), to(&"~".repeat(10_000)), to("~a|b\0")];
        assert_eq!(rows(&replies).iter().map(|row| row.address).collect::<Vec<_>>(), [inbox]);
    }
}

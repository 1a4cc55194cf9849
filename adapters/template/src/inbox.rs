//! Replies: an inbox is a line whose topic is its address, and needs no other tables.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use partitura_adapter_kit::Claim;
use partitura_broker::{Inbox, InboxAddress, Message, Partition, Result, TopicName, telemetry};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::claim::LineClaim;
use crate::error;
use crate::lease::Lease;
use crate::session::Session;
use crate::template::{Core, SYSTEM};

/// The number of replies that may wait to be read; beyond it the oldest are dropped.
const CAPACITY: usize = 1_024;
/// The wait before listening again.
const PAUSE: Duration = Duration::from_millis(500);
/// No name of a topic begins with this prefix: a reply goes to an inbox, or is dropped.
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
        let address = format!("{PREFIX}{}", InboxAddress::secret());
        let claim = listen(&core, &address).await?;
        let (sender, replies) = broadcast::channel(CAPACITY);
        let reading = tokio::spawn(read(core.clone(), address.clone(), Some(claim), sender));
        Ok(Self { core, address: InboxAddress::new(address), replies, reading })
    }
}

async fn listen(core: &Arc<Core>, address: &str) -> Result<LineClaim> {
    let session = Session::open(&core.host, "open an inbox").await?;
    let lease = Lease::open(session, address.to_owned()).await?;
    // Replies have no topic of their own.
    Ok(LineClaim::new(core.clone(), lease, TopicName::new("inbox")?, CAPACITY))
}

/// Takes replies as they come, read or not, while the inbox exists.
async fn read(core: Arc<Core>, address: String, mut first: Option<LineClaim>, replies: broadcast::Sender<Message>) {
    for attempt in 1.. {
        let reading = async {
            let mut claim = match first.take() {
                Some(claim) => claim,
                None => listen(&core, &address).await?,
            };
            loop {
                let claimed = claim.next().await?;
                claim.settle(claimed.iter().map(|claimed| claimed.handle).collect());
                for reply in claimed {
                    // Without a receiver this task will soon end.
                    let _ = replies.send(reply.message);
                }
            }
        };
        let lost: Result<()> = reading.await;
        if let Err(error) = lost {
            if core.host.is_closed() {
                return;
            }
            telemetry::reconnecting(SYSTEM, &error, attempt);
        }
        sleep(PAUSE).await;
    }
}

/// Returns the replies that go to inboxes. An address comes from a request, and may be any text. If its line is gone,
/// the reply is dropped.
pub(crate) fn rows(replies: &[(InboxAddress, Message)]) -> Vec<(&str, Partition, &Message)> {
    let is_inbox = |address: &str| address.strip_prefix(PREFIX).is_some_and(InboxAddress::is_secret);
    let to_inboxes = replies.iter().filter(|(address, _)| is_inbox(address.as_str()));
    to_inboxes.map(|(address, message)| (address.as_str(), Partition(0), message)).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_goes_to_an_inbox_or_nowhere() {
        let inbox = format!("{PREFIX}{}", InboxAddress::secret());
        let message = || Message::new(TopicName::new("t").expect("a name"), "id", "");
        let to = |address: &str| (InboxAddress::new(address), message());
        let replies = [to(&inbox), to("orders"), to("~"), to(&"~".repeat(10_000)), to("~a|b\0")];
        assert_eq!(rows(&replies).iter().map(|(address, ..)| *address).collect::<Vec<_>>(), [inbox]);
    }
}

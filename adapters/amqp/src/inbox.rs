//! Replies: a queue that is gone with its reader.

use std::sync::Arc;

use async_trait::async_trait;
use partitura_broker::{Inbox, InboxAddress, Message, Result, TopicName};

use crate::client::uncancelled;
use crate::core::Core;
use crate::reader::{Attached, Reader};
use crate::wire;

/// The number of replies that may wait at the broker. Beyond it the oldest are dropped.
const MAX_REPLIES: u32 = 10_000;
/// The number of replies that the broker sends in advance.
const AHEAD: usize = 256;
const OPERATION: &str = "wait for a reply";

#[derive(Debug)]
pub(crate) struct AmqpInbox {
    core: Arc<Core>,
    address: InboxAddress,
    topic: TopicName,
    reader: Option<Reader>,
}

impl AmqpInbox {
    pub(crate) async fn open(core: Arc<Core>) -> Result<Self> {
        let address = core.profile.inbox_address(&InboxAddress::secret());
        let reader = Some(read(&core, &address).await?);
        Ok(Self { core, address, topic: TopicName::new("inbox")?, reader })
    }
}

/// Makes the place for replies, unless it is still there, and reads it.
async fn read(core: &Core, address: &InboxAddress) -> Result<Reader> {
    let source = core.profile.inbox(address, MAX_REPLIES).await?;
    Ok(uncancelled(Attached::attach(core.control.clone(), OPERATION, source, AHEAD)).await?.read())
}

#[async_trait]
impl Inbox for AmqpInbox {
    fn address(&self) -> &InboxAddress {
        &self.address
    }

    async fn next(&mut self) -> Result<Message> {
        loop {
            let reader = match &mut self.reader {
                Some(reader) => reader,
                // The address stays the same. Replies that came meanwhile are lost.
                lost => lost.insert(read(&self.core, &self.address).await?),
            };
            match reader.next(1).await {
                Ok(fetched) => {
                    let Some(fetched) = fetched.into_iter().next() else { continue };
                    reader.settle(vec![fetched.info]);
                    return Ok(wire::received(self.topic.clone(), fetched.message).message);
                }
                Err(error) => {
                    self.reader = None;
                    return Err(error);
                }
            }
        }
    }
}

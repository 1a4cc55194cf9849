use std::sync::Arc;

use async_trait::async_trait;
use partitura_broker::{Inbox, InboxAddress, Message, Result};
use tokio::sync::Notify;

use crate::process::Process;

#[derive(Debug)]
pub(super) struct SimInbox {
    process: Process,
    address: InboxAddress,
    arrived: Arc<Notify>,
}

impl SimInbox {
    pub(super) fn new(process: Process, address: InboxAddress, arrived: Arc<Notify>) -> Self {
        Self { process, address, arrived }
    }
}

#[async_trait]
impl Inbox for SimInbox {
    fn address(&self) -> &InboxAddress {
        &self.address
    }

    async fn next(&mut self) -> Result<Message> {
        loop {
            self.process.ready().await;
            {
                let mut state = self.process.world.lock();
                let open = state.inboxes.open.get_mut(self.address.as_str());
                if let Some(message) = open.and_then(|open| open.messages.pop_front()) {
                    return Ok(message);
                }
            }
            self.arrived.notified().await;
        }
    }
}

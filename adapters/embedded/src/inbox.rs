use std::sync::Arc;

use async_trait::async_trait;
use partitura_broker::{Inbox, InboxAddress, Message, Result};
use tokio::sync::Notify;

use crate::client::Client;
use crate::core::Core;
use crate::error;
use crate::state::Mailbox;

/// The number of replies that wait to be read; beyond it the oldest are dropped.
const REPLIES: usize = 4_096;

/// A private address, in this process only.
#[derive(Debug)]
pub(crate) struct EmbeddedInbox {
    client: Arc<Client>,
    name: Arc<str>,
    address: InboxAddress,
    notify: Arc<Notify>,
}

impl EmbeddedInbox {
    pub(crate) fn new(client: Arc<Client>) -> Self {
        let name: Arc<str> = format!("inbox-{}", InboxAddress::secret()).into();
        let mailbox = Mailbox::default();
        let notify = mailbox.notify.clone();
        client.core().state().inboxes.insert(name.clone(), mailbox);
        Self { client, address: InboxAddress::new(name.clone()), name, notify }
    }
}

/// Puts replies into inboxes; replies to an inbox that is gone are dropped.
pub(crate) fn deliver(core: &Core, replies: Vec<(InboxAddress, Message)>) -> Result<()> {
    let mut state = core.state();
    if state.is_closed() {
        return Err(error::closed("reply"));
    }
    for (address, message) in replies {
        if let Some(Mailbox { messages, notify }) = state.inboxes.get_mut(address.as_str()) {
            if messages.len() == REPLIES {
                messages.pop_front();
            }
            messages.push_back(message);
            notify.notify_one();
        }
    }
    Ok(())
}

#[async_trait]
impl Inbox for EmbeddedInbox {
    fn address(&self) -> &InboxAddress {
        &self.address
    }

    async fn next(&mut self) -> Result<Message> {
        loop {
            {
                let mut state = self.client.core().state();
                if state.is_closed() {
                    return Err(error::closed("wait for a reply"));
                }
                if let Some(message) =
                    state.inboxes.get_mut(&self.name).and_then(|mailbox| mailbox.messages.pop_front())
                {
                    return Ok(message);
                }
            }
            self.notify.notified().await;
        }
    }
}

impl Drop for EmbeddedInbox {
    fn drop(&mut self) {
        self.client.core().state().inboxes.remove(&self.name);
    }
}

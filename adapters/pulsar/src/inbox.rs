use std::sync::Arc;

use async_trait::async_trait;
use partitura_broker::{Inbox, InboxAddress, Message, Result, TopicName};

use crate::core::Core;
use crate::listener::Listener;
use crate::names::FullName;

/// The topic of every reply, since an inbox is not a declared topic.
const REPLIES: &str = "inbox";

/// A private address: a topic that is not stored.
#[derive(Debug)]
pub(crate) struct PulsarInbox {
    core: Arc<Core>,
    name: FullName,
    address: InboxAddress,
    listener: Listener,
}

impl PulsarInbox {
    pub(crate) async fn new(core: Arc<Core>) -> Result<Self> {
        core.cluster.check("inbox")?;
        let name = core.topics.namespace().inbox();
        let listener = Listener::new(&core, name.clone(), TopicName::new(REPLIES)?).await?;
        Ok(Self { address: InboxAddress::new(name.address()), core, name, listener })
    }
}

#[async_trait]
impl Inbox for PulsarInbox {
    fn address(&self) -> &InboxAddress {
        &self.address
    }

    async fn next(&mut self) -> Result<Message> {
        self.listener.next().await
    }
}

impl Drop for PulsarInbox {
    fn drop(&mut self) {
        let (core, name) = (self.core.clone(), self.name.clone());
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        // Otherwise the broker deletes it some time after the last connection to it is gone.
        runtime.spawn(async move {
            if let Err(error) = core.topics.admin().delete("close an inbox", &name).await {
                tracing::debug!(%error, "leaving an inbox to the broker to delete");
            }
        });
    }
}

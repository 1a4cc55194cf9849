use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;
use partitura_broker::{Inbox, InboxAddress, Message, Result};
use tokio::sync::Notify;

use crate::process::Process;

/// Number of replies beyond which the oldest are dropped.
const BOUND: usize = 1_000;

/// All inboxes, by address.
#[derive(Debug, Default)]
pub(crate) struct Inboxes {
    open: BTreeMap<String, Open>,
    count: u64,
}

#[derive(Debug)]
struct Open {
    process: usize,
    messages: VecDeque<Message>,
    arrived: Arc<Notify>,
}

impl Inboxes {
    pub(super) fn open(&mut self, process: usize) -> (InboxAddress, Arc<Notify>) {
        self.count += 1;
        let (address, arrived) = (format!("inbox-{}", self.count), Arc::new(Notify::new()));
        self.open.insert(address.clone(), Open { process, messages: VecDeque::new(), arrived: arrived.clone() });
        (InboxAddress::new(address), arrived)
    }

    pub(super) fn close(&mut self, process: usize) {
        self.open.retain(|_, open| open.process != process);
    }

    /// An address that is gone is not an error.
    pub(super) fn deliver(&mut self, address: &InboxAddress, message: Message) {
        if let Some(open) = self.open.get_mut(address.as_str()) {
            if open.messages.len() == BOUND {
                open.messages.pop_front();
            }
            open.messages.push_back(message);
            open.arrived.notify_one();
        }
    }
}

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

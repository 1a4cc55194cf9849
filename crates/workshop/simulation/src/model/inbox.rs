use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use partitura_broker::{InboxAddress, Message};
use tokio::sync::Notify;

/// Number of replies beyond which the oldest are dropped.
const BOUND: usize = 1_000;

/// All inboxes, by address.
#[derive(Debug, Default)]
pub(crate) struct Inboxes {
    pub(crate) open: BTreeMap<String, Open>,
    pub(crate) count: u64,
}

/// An inbox with its waiting messages.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) process: usize,
    pub(crate) messages: VecDeque<Message>,
    pub(crate) arrived: Arc<Notify>,
}

impl Inboxes {
    pub(crate) fn open(&mut self, process: usize) -> (InboxAddress, Arc<Notify>) {
        self.count += 1;
        let (address, arrived) = (format!("inbox-{}", self.count), Arc::new(Notify::new()));
        self.open.insert(address.clone(), Open { process, messages: VecDeque::new(), arrived: arrived.clone() });
        (InboxAddress::new(address), arrived)
    }

    pub(crate) fn close(&mut self, process: usize) {
        self.open.retain(|_, open| open.process != process);
    }

    /// An address that is gone is not an error.
    pub(crate) fn deliver(&mut self, address: &InboxAddress, message: Message) {
        if let Some(open) = self.open.get_mut(address.as_str()) {
            if open.messages.len() == BOUND {
                open.messages.pop_front();
            }
            open.messages.push_back(message);
            open.arrived.notify_one();
        }
    }
}

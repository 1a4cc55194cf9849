use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use partitura_adapter_kit::TokenSlab;
use partitura_broker::{Credit, Event, TopicName};
use tokio::sync::Notify;

use super::broadcast::Feed;
use super::queue::Place;

/// A consumer, as the broker sees it.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) role: Role,
    pub(super) credit: Credit,
    pub(super) revoke_within: Duration,
    /// What it has been given and has not settled.
    pub(super) held: TokenSlab<Held>,
    pub(super) held_bytes: usize,
    /// What it has to be told before anything else is delivered.
    pub(super) news: VecDeque<Event>,
    /// Partitions of its own that may have something.
    pub(super) hot: VecDeque<u32>,
    pub(super) notify: Arc<Notify>,
    /// Dropped, but a commit that settles deliveries of it is under way.
    pub(super) gone: bool,
}

#[derive(Debug)]
pub(super) enum Role {
    /// One of those who serve a durable subscription.
    Of(u32),
    /// Listens to a stream.
    Listener(TopicName, Feed),
}

/// A delivery that is not settled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    /// Where it came from; `None` for a broadcast, which nobody keeps.
    pub(super) origin: Option<(u32, Place)>,
    pub(super) size: u32,
    /// A commit that settles it is under way.
    pub(super) committing: bool,
}

impl Member {
    pub(super) fn new(id: u32, role: Role, credit: Credit, revoke_within: Duration) -> Self {
        Self {
            role,
            credit,
            revoke_within,
            held: TokenSlab::new(id),
            held_bytes: 0,
            news: VecDeque::new(),
            hot: VecDeque::new(),
            notify: Arc::new(Notify::new()),
            gone: false,
        }
    }

    pub(super) fn group(&self) -> Option<u32> {
        match self.role {
            Role::Of(group) => Some(group),
            Role::Listener(..) => None,
        }
    }

    /// Whether one more message of that size is within the credit. The first always is.
    pub(super) fn affords(&self, size: usize) -> bool {
        self.held.is_empty()
            || (self.held.len() < self.credit.messages.get() && self.held_bytes + size <= self.credit.bytes.get())
    }
}

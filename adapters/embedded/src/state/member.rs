use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use partitura_adapter_kit::TokenSlab;
use partitura_broker::{Credit, Event, TopicName};
use tokio::sync::Notify;

use super::broadcast::Feed;
use super::queue::Location;

/// A consumer, as the broker sees it.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) role: Role,
    pub(super) credit: Credit,
    pub(super) revoke_within: Duration,
    /// Its unsettled deliveries.
    pub(super) held: TokenSlab<Held>,
    /// Their number and size by topic: credit is counted by topic, so that no topic uses up another's.
    holding: Vec<Holding>,
    /// The events that come before further deliveries.
    pub(super) news: VecDeque<Event>,
    /// Its partitions that may have messages.
    pub(super) hot: VecDeque<u32>,
    pub(super) notify: Arc<Notify>,
    /// It competes, and when it last looked its credit was used up.
    pub(super) full: bool,
    /// It was dropped, but a commit that settles some of its deliveries is under way.
    pub(super) gone: bool,
}

#[derive(Debug)]
pub(super) enum Role {
    /// A consumer of a durable subscription.
    Subscriber(u32),
    /// Listens to a stream.
    Listener(TopicName, Feed),
}

/// A delivery that is not settled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    /// Its place; `None` for a broadcast, which is not stored.
    pub(super) origin: Option<Location>,
    /// The place of its topic among those of the subscription.
    pub(super) topic: usize,
    pub(super) size: u32,
    /// A commit that settles it is under way.
    pub(super) committing: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Holding {
    messages: usize,
    bytes: usize,
}

impl Member {
    pub(super) fn new(id: u32, role: Role, credit: Credit, revoke_within: Duration) -> Self {
        Self {
            role,
            credit,
            revoke_within,
            held: TokenSlab::new(id),
            holding: Vec::new(),
            news: VecDeque::new(),
            hot: VecDeque::new(),
            notify: Arc::new(Notify::new()),
            full: false,
            gone: false,
        }
    }

    pub(super) fn group(&self) -> Option<u32> {
        match self.role {
            Role::Subscriber(group) => Some(group),
            Role::Listener(..) => None,
        }
    }

    /// The number of further messages and bytes of a topic within the credit.
    pub(super) fn room(&self, topic: usize) -> (usize, usize) {
        let Holding { messages, bytes } = self.holding.get(topic).copied().unwrap_or_default();
        (self.credit.messages.get().saturating_sub(messages), self.credit.bytes.get().saturating_sub(bytes))
    }

    /// Whether one more message of this size of the topic is within the credit. The first message always is.
    pub(super) fn affords(&self, topic: usize, size: usize) -> bool {
        let (messages, bytes) = self.room(topic);
        self.holding.get(topic).is_none_or(|holding| holding.messages == 0) || (messages > 0 && size <= bytes)
    }

    /// Counts a delivery.
    pub(super) fn take_on(&mut self, held: &Held) {
        if self.holding.len() <= held.topic {
            self.holding.resize(held.topic + 1, Holding::default());
        }
        let holding = &mut self.holding[held.topic];
        holding.messages += 1;
        holding.bytes += held.size as usize;
    }

    /// Counts the end of a delivery.
    pub(super) fn give_back(&mut self, held: &Held) {
        let holding = &mut self.holding[held.topic];
        holding.messages -= 1;
        holding.bytes -= held.size as usize;
    }
}

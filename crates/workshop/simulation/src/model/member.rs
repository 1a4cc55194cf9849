use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use partitura_broker::{AckToken, ConsumerOptions, Event, Result};
use tokio::sync::Notify;

/// Wakes one consumer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Signals(Arc<Notify>);

impl Signals {
    pub(crate) fn wake(&self) {
        self.0.notify_one();
    }

    pub(crate) async fn woken(&self) {
        self.0.notified().await;
    }
}

/// One consumer of a subscription.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) process: usize,
    pub(crate) group: usize,
    pub(crate) credit: usize,
    pub(crate) held: usize,
    pub(crate) revoke_within: Duration,
    pub(crate) signals: Signals,
    /// The broker has cut it off, and gives it no deliveries.
    pub(crate) away: bool,
    /// It does not receive its events.
    pub(crate) deaf: bool,
    pub(crate) events: VecDeque<Result<Event>>,
    /// Settlements on their way.
    pub(crate) pending: VecDeque<AckToken>,
}

impl Member {
    pub(crate) fn new(process: usize, group: usize, options: &ConsumerOptions, signals: Signals) -> Self {
        Self {
            process,
            group,
            credit: options.credit.messages.get(),
            held: 0,
            revoke_within: options.revoke_within,
            signals,
            away: false,
            deaf: false,
            events: VecDeque::new(),
            pending: VecDeque::new(),
        }
    }
}

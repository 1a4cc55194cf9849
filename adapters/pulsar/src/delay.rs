//! Delay: a message that is not due yet waits in the timers of its topic, and is forwarded when it is.
//!
//! Pulsar delays messages only on shared subscriptions, and wakes up once in a tick, which is a second long by default. So
//! it is asked to deliver a little before the time ([`LEAD`]), and the [forwarder](crate::forwarder) waits for the moment
//! itself. Every process that consumes a topic is ready to forward, and one of them does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use partitura_broker::{Error, Message, Partition, Receipt, Result, Timestamp, TopicName};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::core::Core;
use crate::error;
use crate::forwarder;
use crate::job::Job;
use crate::lanes::{Item, Route};
use crate::wire::Outbound;

/// The longest delay.
pub(crate) const MAX: Duration = Duration::from_secs(10 * 366 * 24 * 3_600);
/// How long before its time the broker is to deliver a timer: longer than its ticks.
pub(crate) const LEAD: Duration = Duration::from_secs(2);
/// The longest delay that the broker is asked for. A timer that is due later is written again then: it would keep its
/// ledger from being deleted, and the broker has to read all that is pending when it starts.
const HORIZON: Duration = Duration::from_secs(24 * 3_600);
/// How long the broker may take to confirm what is written again.
const CONFIRM: Duration = Duration::from_secs(30);

/// What to write into the timers of its topic.
pub(crate) fn timer(message: Message, due: Timestamp, now: Timestamp) -> Outbound {
    let wait = due.since(now).min(HORIZON).saturating_sub(LEAD);
    let message = Outbound::new(message);
    if wait.is_zero() { message } else { message.deliver_at(now + wait) }
}

/// Writes timers into those of their topic once more, and says for each what came of it.
pub(crate) async fn write_again(core: &Arc<Core>, topic: &TopicName, timers: Vec<Outbound>) -> Vec<Result<Receipt>> {
    let partition = Partition(0);
    let (job, done) = Job::new(timers.len(), Arc::new(Semaphore::new(0)));
    let item = |(index, message)| Item { message, pledge: job.pledge(index) };
    let items = timers.into_iter().enumerate().map(item).collect();
    let to = core.catalog.namespace().timers(topic).partition(partition);
    core.lanes.push(&Route { topic: to, partition, batched: false }, items);
    let _ = timeout(CONFIRM, done).await;
    job.finish(|| -> Error { error::timeout("write a timer again") })
}

/// Forwards the timers of one topic until it is dropped.
#[derive(Debug)]
pub(crate) struct Forwarder(AbortHandle);

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The forwarders of this process, one for each topic that it consumes.
#[derive(Debug, Default)]
pub(crate) struct Forwarders(Mutex<HashMap<TopicName, Weak<Forwarder>>>);

impl Forwarders {
    /// The forwarder of a topic, for as long as it is kept.
    pub(crate) fn of(&self, core: &Arc<Core>, topic: &TopicName) -> Arc<Forwarder> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(forwarder) = all.get(topic).and_then(Weak::upgrade) {
            return forwarder;
        }
        all.retain(|_, forwarder| forwarder.strong_count() > 0);
        let forwarder = Arc::new(Forwarder(tokio::spawn(forwarder::run(core.clone(), topic.clone())).abort_handle()));
        all.insert(topic.clone(), Arc::downgrade(&forwarder));
        forwarder
    }
}

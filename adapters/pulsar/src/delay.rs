//! Delay: a message that is not due yet waits in the timers of its topic, and is forwarded when it is.
//!
//! Pulsar delays messages only on shared subscriptions, and wakes up once in a tick, which is a second long by default. So
//! it is asked to deliver a little before the time ([`LEAD`]), and the forwarder waits for the moment itself. Every
//! process that consumes a topic runs a forwarder for it, and all of them compete on one shared subscription: what one
//! holds that dies goes to another at once. A timer is acknowledged after its message is confirmed on its topic.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use partitura_adapter_kit::{Backoff, Claim, Claimed};
use partitura_broker::{
    Clock, ErrorKind, Message, Partition, Producer, ProducerOptions, Result, Timestamp, TopicName, telemetry,
};
use pulsar::proto::command_subscribe::SubType;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use crate::claim::{PulsarClaim, Wanted};
use crate::core::{Core, SYSTEM};
use crate::names::TIMERS;
use crate::producer::{PulsarProducer, first_error};
use crate::settlement::Handle;
use crate::wire::Outbound;

/// The longest delay.
pub(crate) const MAX: Duration = Duration::from_secs(10 * 366 * 24 * 3_600);
/// How long before its time the broker is to deliver a timer: longer than its ticks.
const LEAD: Duration = Duration::from_secs(2);
/// The longest delay that the broker is asked for. A timer that is due later is written again then: it would keep its
/// ledger from being deleted, and the broker has to read all that is pending when it starts.
const HORIZON: Duration = Duration::from_secs(24 * 3_600);
/// How many timers a forwarder holds.
const AHEAD: usize = 4_096;
const AGAIN: Backoff = Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(5) };

/// What to write into the timers of its topic.
pub(crate) fn timer(message: Message, due: Timestamp, now: Timestamp) -> Outbound {
    let wait = due.since(now).min(HORIZON).saturating_sub(LEAD);
    let message = Outbound::new(message);
    if wait.is_zero() { message } else { message.deliver_at(now + wait) }
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
        let forwarder = Arc::new(Forwarder(tokio::spawn(forward(core.clone(), topic.clone())).abort_handle()));
        all.insert(topic.clone(), Arc::downgrade(&forwarder));
        forwarder
    }
}

/// Forwards until the broker is closed, beginning anew whenever something fails: what is unsettled comes again.
async fn forward(core: Arc<Core>, topic: TopicName) {
    let producer = PulsarProducer::new(core.clone(), &ProducerOptions::default());
    let mut attempt = 0;
    loop {
        let failure = match Pending::begin(&core, &topic).await {
            Ok(mut pending) => {
                attempt = 0;
                match pending.forward(&core, &producer).await {
                    Ok(never) => match never {},
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        if failure.kind() == ErrorKind::Closed || core.cluster.check("forward").is_err() {
            return;
        }
        attempt += 1;
        telemetry::reconnecting(SYSTEM, &failure, attempt);
        sleep(AGAIN.delay(attempt, u64::MAX)).await;
    }
}

/// Timers that were delivered and are not forwarded yet, by their time.
struct Pending {
    claim: PulsarClaim,
    timers: BinaryHeap<Reverse<Timer>>,
    /// Breaks ties by arrival.
    arrived: u64,
}

struct Timer {
    /// When something is to be done.
    at: Timestamp,
    arrived: u64,
    claimed: Claimed<Handle>,
}

impl Pending {
    async fn begin(core: &Arc<Core>, topic: &TopicName) -> Result<Self> {
        let partition = Partition(0);
        let timers = core.catalog.namespace().timers(topic).partition(partition);
        let wanted = Wanted {
            topic,
            partitions: vec![(partition, timers)],
            subscription: TIMERS.to_owned(),
            kind: SubType::Shared,
            durable: true,
            ahead: AHEAD,
        };
        Ok(Self { claim: PulsarClaim::new(core, wanted).await?, timers: BinaryHeap::new(), arrived: 0 })
    }

    async fn forward(&mut self, core: &Core, producer: &PulsarProducer) -> Result<std::convert::Infallible> {
        loop {
            let now = core.clock.now();
            self.forward_due(now, producer).await?;
            let next = self.timers.peek().map(|Reverse(timer)| timer.at.since(core.clock.now()));
            tokio::select! {
                arrived = self.claim.next() => {
                    for claimed in arrived? {
                        self.hold(claimed, core.clock.now());
                    }
                }
                // The clock is looked at again: it may have been set.
                () = sleep(next.unwrap_or(LEAD)), if next.is_some() => {}
            }
        }
    }

    fn hold(&mut self, claimed: Claimed<Handle>, now: Timestamp) {
        let due = claimed.message.not_before.unwrap_or(now);
        // The broker was asked for less than the whole delay: it is written again. Not at once, so that a broker whose
        // delays are turned off is not kept busy with it.
        let at = if due.since(now) > LEAD * 2 { now + LEAD } else { due };
        self.arrived += 1;
        self.timers.push(Reverse(Timer { at, arrived: self.arrived, claimed }));
    }

    /// Publishes what is due, in the order of the times; what is not, goes back among the timers.
    async fn forward_due(&mut self, now: Timestamp, producer: &PulsarProducer) -> Result<()> {
        let (mut messages, mut handles) = (Vec::new(), Vec::new());
        while let Some(Reverse(timer)) = self.timers.peek()
            && timer.at <= now
            && let Some(Reverse(Timer { claimed, .. })) = self.timers.pop()
        {
            messages.push(claimed.message);
            handles.push(claimed.handle);
        }
        if messages.is_empty() {
            return Ok(());
        }
        first_error(producer.publish(messages).await)?;
        self.claim.settle(handles);
        Ok(())
    }
}

impl PartialEq for Timer {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.arrived) == (other.at, other.arrived)
    }
}

impl Eq for Timer {}

impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timer {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.arrived).cmp(&(other.at, other.arrived))
    }
}

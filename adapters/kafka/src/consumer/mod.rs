//! A consumer of a durable, ordered subscription: a member of a consumer group.

mod cleanup;
mod committer;
mod driver;
mod driving_thread;
mod leave;
mod membership;
mod progress;
mod source;
mod state;
mod takeover;
mod worker;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use partitura_broker::{
    AckToken, Consumer, ConsumerOptions, Error, Event, Partition, Result, SubscriptionName, TopicName, telemetry,
};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::BaseConsumer;
use tracing::Span;

use self::cleanup::Cleanup;
pub(crate) use self::driver::Driver;
pub(crate) use self::membership::Membership;
use self::state::State;
use self::takeover::SubscribedTopics;
use self::worker::Worker;
use crate::callbacks::Callbacks;
use crate::core::{Core, SYSTEM};
use crate::delay::Leases;
use crate::{error, names, subscription};

/// The time in which joining waits for the partitions that the group assigns. If it takes longer, the consumer is
/// told later.
const JOIN_TIMEOUT: Duration = Duration::from_secs(5);

/// A member of an ordered subscription.
pub(crate) struct KafkaConsumer {
    membership: Arc<Membership>,
    span: Span,
}

impl KafkaConsumer {
    /// Begins to join the group.
    pub(crate) async fn start(
        core: &Arc<Core>,
        options: &ConsumerOptions,
        subscription: &SubscriptionName,
        leases: Arc<Leases>,
        driver: Arc<Driver>,
    ) -> Result<Self> {
        let mut topics: Vec<TopicName> = options.topics.clone();
        topics.sort();
        topics.dedup();
        let group = names::group(subscription, &topics);
        subscription::verify(core, &group, &topics).await?;
        let config = core.target().consumer_config(&group, options.revoke_within);
        let state = State::new(core.next_consumer(), topics.clone(), options.credit);
        let membership = Arc::new(Membership::new(state, driver.thread().clone()));
        let cleanup = Cleanup::new(core, &topics).await?;
        let topics = SubscribedTopics::new(core, topics, leases).await?;
        let (started, within) = (membership.clone(), options.revoke_within);
        let start = move || {
            let consumer = BaseConsumer::from_config_and_context(&config, Callbacks::default())
                .map_err(|source| error::error("subscribe", source))?;
            let worker = Worker::new(consumer, started, topics, cleanup, within);
            worker.join();
            driver.start(worker).map_err(|source| error::thread("subscribe", source))
        };
        // From here on, dropping the consumer leaves the group.
        let member = Self { membership, span: telemetry::consumer_span(SYSTEM, &options.topics, Some(subscription)) };
        core.client.blocking("subscribe", start).await??;
        Ok(member)
    }

    /// The part of this consumer that the close of a connection needs.
    pub(crate) fn membership(&self) -> &Arc<Membership> {
        &self.membership
    }

    /// Waits a limited time for the partitions that the group assigns.
    pub(crate) async fn joined(&self) {
        let joined = self.membership.wait_for(|membership| {
            let state = membership.state();
            state.end.is_some() || (state.joined && !state.is_opening())
        });
        let _later = tokio::time::timeout(JOIN_TIMEOUT, joined).await;
    }

    /// Waits until the brokers have all settlements so far.
    async fn committed(&self) -> Result<()> {
        let settled = self.membership.state().settled;
        self.membership.hurry.store(true, Ordering::Relaxed);
        self.membership.wake();
        let done = |membership: &Membership| {
            let state = membership.state();
            state.committed >= settled || state.end.is_some() || membership.left.load(Ordering::Relaxed)
        };
        self.membership.wait_for(done).await;
        let state = self.membership.state();
        match &state.end {
            Some(error) if state.committed < settled => Err(error.duplicate()),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Consumer for KafkaConsumer {
    async fn next(&mut self) -> Result<Event> {
        loop {
            {
                let mut state = self.membership.state();
                if let Some(error) = &state.end {
                    return Err(error.duplicate());
                }
                if let Some(event) = state.next() {
                    return Ok(event);
                }
            }
            self.membership.arrived.notified().await;
        }
    }

    fn settle(&mut self, tokens: &[AckToken]) {
        let stale = self.membership.state().settle(tokens);
        self.span.in_scope(|| telemetry::stale_settlements(SYSTEM, stale));
    }

    async fn flush(&mut self) -> Result<()> {
        self.committed().await
    }

    async fn release(&mut self, partitions: &[Partition]) -> Result<()> {
        self.membership.state().release(partitions);
        // The last commit of the released partitions follows at once. This one is for the others, and for the
        // caller that waits.
        self.committed().await
    }

    async fn close(self: Box<Self>) -> Result<()> {
        let settled = self.membership.state().settled;
        self.membership.stop();
        self.membership.gone().await;
        let state = self.membership.state();
        if state.committed < settled {
            let text = "the last settlements could not be committed; their messages will be delivered again";
            return Err(Error::new(partitura_broker::ErrorKind::Disconnected, "close", text));
        }
        Ok(())
    }
}

impl Drop for KafkaConsumer {
    fn drop(&mut self) {
        self.membership.stop();
    }
}

impl fmt::Debug for KafkaConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let topics: Vec<_> = self.membership.state().names().cloned().collect();
        f.debug_struct("KafkaConsumer").field("topics", &topics).finish_non_exhaustive()
    }
}

//! A consumer of a durable, ordered subscription: a member of a consumer group.

mod committer;
mod context;
mod janitor;
mod log;
mod source;
mod state;
mod takeover;
mod worker;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use partitura_broker::{
    AckToken, Consumer, ConsumerOptions, Error, Event, Partition, Result, SubscriptionName, TopicName, telemetry,
};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::BaseConsumer;
use tokio::sync::{Notify, watch};
use tracing::Span;

use self::janitor::Janitor;
use self::state::State;
use self::takeover::Topics;
use self::worker::Worker;
use crate::core::Core;
use crate::{error, names, subscription};

pub(crate) use self::context::{Callbacks, Change, assigned_of};

/// How long joining waits for the group to say what is whose. It may take longer: the consumer is told then.
const JOIN: Duration = Duration::from_secs(5);

/// What the polling thread and the consumer share.
pub(crate) struct Shared {
    state: Mutex<State>,
    /// There may be an event.
    arrived: Arc<Notify>,
    /// The thread went round once more.
    progress: watch::Sender<()>,
    /// Settlements are to be committed now.
    hurry: AtomicBool,
    stop: AtomicBool,
    /// Everything is committed.
    left: AtomicBool,
    /// The group knows.
    gone: AtomicBool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the consumer from outside.
    pub(crate) fn close(&self) {
        self.state().end.get_or_insert(error::closed("consume"));
        self.stop.store(true, Ordering::Relaxed);
        self.arrived.notify_one();
    }

    /// Waits until the group knows that the consumer has left.
    pub(crate) async fn gone(&self) {
        self.wait_for(|shared| shared.gone.load(Ordering::Relaxed)).await;
    }

    async fn wait_for(&self, reached: impl Fn(&Self) -> bool) {
        let mut progress = self.progress.subscribe();
        while !reached(self) {
            if progress.changed().await.is_err() {
                return;
            }
        }
    }
}

/// One member of an ordered subscription.
pub(crate) struct Member {
    shared: Arc<Shared>,
    span: Span,
}

impl Member {
    pub(crate) async fn join(
        core: &Arc<Core>,
        options: &ConsumerOptions,
        subscription: &SubscriptionName,
    ) -> Result<Self> {
        let mut topics: Vec<TopicName> = options.topics.clone();
        topics.sort();
        topics.dedup();
        let group = names::group(subscription, &topics);
        subscription::verify(core, &group, &topics).await?;
        let config = core.consumer_config(&group, options.revoke_within);
        let state = State::new(core.next_consumer(), topics.clone(), options.credit);
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            arrived: Arc::default(),
            progress: watch::Sender::new(()),
            hurry: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            left: AtomicBool::new(false),
            gone: AtomicBool::new(false),
        });
        let janitor = Janitor::new(core, &topics).await?;
        let topics = Topics::new(core, topics);
        let (started, within) = (shared.clone(), options.revoke_within);
        let start = move || {
            let consumer = BaseConsumer::from_config_and_context(&config, Callbacks::default())
                .map_err(|source| error::error("subscribe", source))?;
            let worker = Worker::new(consumer, started, topics, janitor, within);
            let spawn =
                |worker: Worker| thread::Builder::new().name("kafka-consumer".into()).spawn(move || worker.run());
            worker.and_then(spawn).map(drop).map_err(|source| error::thread("subscribe", source))
        };
        // From here on, dropping it leaves the group.
        let member = Self { shared, span: telemetry::consumer_span("kafka", &options.topics, Some(subscription)) };
        core.blocking("subscribe", start).await??;
        core.watch(&member.shared);
        let joined = member.shared.wait_for(|shared| {
            let state = shared.state();
            state.end.is_some() || (state.joined && !state.is_opening())
        });
        let _later = tokio::time::timeout(JOIN, joined).await;
        Ok(member)
    }

    /// Waits until the brokers have all settlements up to now.
    async fn committed(&self) -> Result<()> {
        let settled = self.shared.state().settled;
        self.shared.hurry.store(true, Ordering::Relaxed);
        let done = |shared: &Shared| {
            let state = shared.state();
            state.committed >= settled || state.end.is_some() || shared.left.load(Ordering::Relaxed)
        };
        self.shared.wait_for(done).await;
        let state = self.shared.state();
        match &state.end {
            Some(error) if state.committed < settled => Err(error.duplicate()),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Consumer for Member {
    async fn next(&mut self) -> Result<Event> {
        loop {
            {
                let mut state = self.shared.state();
                if let Some(error) = &state.end {
                    return Err(error.duplicate());
                }
                if let Some(event) = state.next() {
                    return Ok(event);
                }
            }
            self.shared.arrived.notified().await;
        }
    }

    fn settle(&mut self, tokens: &[AckToken]) {
        let stale = self.shared.state().settle(tokens);
        self.span.in_scope(|| telemetry::stale_settlements("kafka", stale));
    }

    async fn flush(&mut self) -> Result<()> {
        self.committed().await
    }

    async fn release(&mut self, partitions: &[Partition]) -> Result<()> {
        self.shared.state().release(partitions);
        // The last commit of what goes follows at once; this one is for what stays, and for who waits.
        self.committed().await
    }

    async fn close(self: Box<Self>) -> Result<()> {
        let settled = self.shared.state().settled;
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.gone().await;
        let state = self.shared.state();
        if state.committed < settled {
            let text = "the last settlements could not be committed; their messages come again";
            return Err(Error::new(partitura_broker::ErrorKind::Disconnected, "close", text));
        }
        Ok(())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let topics: Vec<_> = self.shared.state().names().cloned().collect();
        f.debug_struct("Member").field("topics", &topics).finish_non_exhaustive()
    }
}

//! What everything on one connection shares.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use partitura_broker::telemetry::TARGET;
use partitura_broker::{Capabilities, Clock, CorrectedClock, Result, Timestamp, TopicName};
use rdkafka::ClientConfig;
use rdkafka::admin::AdminClient;
use rdkafka::client::{Client, DefaultClientContext};
use rdkafka::error::KafkaResult;
use rdkafka::producer::Producer;

use crate::client::Health;
use crate::consumer::Shared;
use crate::delay::{Memory, Timers};
use crate::options::Target;
use crate::outgoing::{Outgoing, Reports};
use crate::tail::Stop;
use crate::topology::{self, Route};
use crate::watch::Watch;
use crate::{delay, error};

/// The connection: one producer, one admin client, what is known of topics, and who has to be told of the close.
pub(crate) struct Core {
    target: Target,
    capabilities: Capabilities,
    clock: CorrectedClock,
    admin: Arc<Admin>,
    outgoing: Mutex<Arc<Outgoing>>,
    health: Mutex<Arc<Health>>,
    routes: RwLock<HashMap<TopicName, Arc<Route>>>,
    watch: Watch,
    waiting: Memory,
    timers: Mutex<HashMap<TopicName, Weak<Timers>>>,
    members: Mutex<Vec<Weak<Shared>>>,
    tails: Mutex<Vec<Weak<Stop>>>,
    consumers: AtomicU32,
    closed: AtomicBool,
}

/// The admin client. It tells nothing but answers.
pub(crate) type Admin = AdminClient<DefaultClientContext>;

impl Core {
    pub(crate) fn new(
        target: Target,
        capabilities: Capabilities,
        admin: Arc<Admin>,
        outgoing: Outgoing,
        health: Arc<Health>,
    ) -> Self {
        Self {
            target,
            capabilities,
            clock: CorrectedClock::default(),
            admin,
            outgoing: Mutex::new(Arc::new(outgoing)),
            health: Mutex::new(health),
            routes: RwLock::default(),
            watch: Watch::default(),
            waiting: Memory::default(),
            timers: Mutex::default(),
            members: Mutex::default(),
            tails: Mutex::default(),
            consumers: AtomicU32::new(1),
            closed: AtomicBool::new(false),
        }
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    pub(crate) fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    pub(crate) fn clock(&self) -> &CorrectedClock {
        &self.clock
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) fn next_consumer(&self) -> u32 {
        self.consumers.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn admin(&self) -> Result<Arc<Admin>> {
        if self.is_closed() { Err(error::closed("declare")) } else { Ok(self.admin.clone()) }
    }

    /// The producer. One that has failed for good is replaced.
    pub(crate) fn outgoing(&self) -> Result<Arc<Outgoing>> {
        if self.is_closed() {
            return Err(error::closed("publish"));
        }
        let mut outgoing = self.outgoing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        if health.fatal() {
            tracing::warn!(target: TARGET, "the producer failed for good and is built anew");
            let fresh = Arc::new(Health::default());
            *outgoing = Arc::new(Outgoing::start(&self.target, fresh.clone(), self.admin.clone())?);
            *health = fresh;
        }
        Ok(outgoing.clone())
    }

    /// Asks the brokers something that blocks.
    pub(crate) async fn ask<T, F>(&self, operation: &'static str, ask: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Client<Reports>) -> KafkaResult<T> + Send + 'static,
    {
        let producer = self.outgoing()?.producer().clone();
        let answer = self.blocking(operation, move || ask(producer.client())).await?;
        answer.map_err(|source| error::error(operation, source))
    }

    /// Runs what blocks elsewhere.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        operation: &'static str,
        task: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        if self.is_closed() {
            return Err(error::closed(operation));
        }
        tokio::task::spawn_blocking(task).await.map_err(|_| error::closed(operation))
    }

    /// What the topic is, if that is remembered.
    pub(crate) fn known_route(&self, topic: &TopicName) -> Option<Arc<Route>> {
        self.routes.read().unwrap_or_else(PoisonError::into_inner).get(topic).cloned()
    }

    /// What the topic is: remembered, or looked up.
    pub(crate) async fn route(&self, topic: &TopicName) -> Result<Arc<Route>> {
        match self.known_route(topic) {
            Some(route) => Ok(route),
            None => Ok(self.remember(topic, topology::look_up(self, topic).await?)),
        }
    }

    pub(crate) fn remember(&self, topic: &TopicName, route: Route) -> Arc<Route> {
        let route = Arc::new(route);
        self.routes.write().unwrap_or_else(PoisonError::into_inner).insert(topic.clone(), route.clone());
        route
    }

    /// The topics in use, and whether they are still the same.
    pub(crate) fn watching(&self) -> &Watch {
        &self.watch
    }

    /// What the contents of delayed messages take.
    pub(crate) fn waiting(&self) -> &Memory {
        &self.waiting
    }

    /// There is another topic of that name: what was known of the first is void.
    pub(crate) fn made_anew(&self, topic: &str) {
        self.routes.write().unwrap_or_else(PoisonError::into_inner).retain(|name, _| name.as_str() != topic);
        if let Ok(outgoing) = self.outgoing() {
            outgoing.made_anew(topic);
        }
    }

    /// The settings of a member of a group.
    pub(crate) fn consumer_config(&self, group: &str, revoke_within: Duration) -> ClientConfig {
        let longest = Duration::from_secs(300).max(revoke_within * 2);
        let mut config = self.reader_config();
        config
            .set("group.id", group)
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", self.target.session().as_millis().to_string())
            .set("heartbeat.interval.ms", self.target.heartbeat().as_millis().to_string())
            .set("max.poll.interval.ms", longest.as_millis().to_string())
            // So soon does the group hear of partitions that were added.
            .set("topic.metadata.refresh.interval.ms", "30000")
            // Of each partition, for each has a queue of its own.
            .set("queued.max.messages.kbytes", "4096");
        self.target.finish(config)
    }

    /// The settings of who reads without a group.
    pub(crate) fn reader_config(&self) -> ClientConfig {
        let mut config = self.target.config();
        config
            .set("group.id", "partitura")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_committed")
            .set("fetch.wait.max.ms", "100")
            .set("fetch.queue.backoff.ms", "10")
            .set("fetch.error.backoff.ms", "50")
            .set("queued.max.messages.kbytes", "16384");
        self.target.finish(config)
    }

    /// The timers of a topic, which run for as long as somebody here consumes it.
    pub(crate) fn timers(self: &Arc<Self>, topic: &TopicName) -> Result<Arc<Timers>> {
        let mut timers = self.timers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = timers.get(topic).and_then(Weak::upgrade) {
            return Ok(running);
        }
        let started = delay::start(self, topic)?;
        timers.insert(topic.clone(), Arc::downgrade(&started));
        Ok(started)
    }

    /// Closes this consumer with the connection.
    pub(crate) fn watch(&self, member: &Arc<Shared>) {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.retain(|member| member.strong_count() > 0);
        members.push(Arc::downgrade(member));
        if self.is_closed() {
            member.close();
        }
    }

    /// Stops this reader with the connection.
    pub(crate) fn watch_tail(&self, tail: &Arc<Stop>) {
        let mut tails = self.tails.lock().unwrap_or_else(PoisonError::into_inner);
        tails.retain(|tail| tail.strong_count() > 0);
        tails.push(Arc::downgrade(tail));
        if self.is_closed() {
            tail.stop();
        }
    }

    /// Ends everything, after what was accepted is written.
    pub(crate) async fn close(&self) -> Result<()> {
        let outgoing = match self.outgoing() {
            Ok(outgoing) => outgoing,
            // It is closed already.
            Err(_) => return Ok(()),
        };
        self.closed.store(true, Ordering::Release);
        let members: Vec<_> = self.members.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect();
        let members: Vec<_> = members.iter().filter_map(Weak::upgrade).collect();
        members.iter().for_each(|member| member.close());
        let tails: Vec<_> = self.tails.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect();
        tails.iter().filter_map(Weak::upgrade).for_each(|tail| tail.stop());
        for member in members {
            member.gone().await;
        }
        let flushed = tokio::task::spawn_blocking(move || outgoing.producer().flush(topology::PATIENCE)).await;
        flushed.map_err(|_| error::closed("close"))?.map_err(|source| error::error("close", source))
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("target", &self.target).finish_non_exhaustive()
    }
}

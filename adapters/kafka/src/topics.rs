//! The known properties of topics: the number of partitions, kind and ordering, and the birth of those in use.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use partitura_broker::telemetry::TARGET;
use partitura_broker::{Error, ErrorKind, Result, TopicName};
use rdkafka::admin::{AdminOptions, ConfigResource, OwnedResourceSpecifier, ResourceSpecifier};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::Metadata;
use tokio::sync::Notify;

use crate::birth::{Birth, LABEL};
use crate::client::{Client, REQUEST_TIMEOUT};
use crate::error;
use crate::route::Route;
use crate::watch::{Watched, WatchedTopics};

/// The pause between two attempts to look a topic up.
pub(crate) const PAUSE: Duration = Duration::from_millis(20);

/// The interval at which all topics in use are looked up, in one request.
const WATCH_EVERY: Duration = Duration::from_secs(2);
/// The addition to it for each of them: an answer has thirty settings of each topic.
const WATCH_EACH: Duration = Duration::from_millis(20);
/// The longest wait for the answer. Other requests may wait behind it, and without it the known births stay.
const WATCH_TIMEOUT: Duration = Duration::from_secs(2);

/// The topics of a connection.
#[derive(Debug)]
pub(crate) struct Topics {
    client: Arc<Client>,
    routes: RwLock<HashMap<TopicName, Arc<Route>>>,
    watched: WatchedTopics,
    is_watching: AtomicBool,
    hurry: Arc<Notify>,
}

impl Topics {
    pub(crate) fn new(client: Arc<Client>) -> Self {
        let (routes, watched, is_watching, hurry) = Default::default();
        Self { client, routes, watched, is_watching, hurry }
    }

    /// The remembered route of a topic.
    pub(crate) fn known_route(&self, topic: &TopicName) -> Option<Arc<Route>> {
        self.routes.read().unwrap_or_else(PoisonError::into_inner).get(topic).cloned()
    }

    /// The route of a topic, remembered or looked up.
    pub(crate) async fn route(&self, topic: &TopicName) -> Result<Arc<Route>> {
        match self.known_route(topic) {
            Some(route) => Ok(route),
            None => Ok(self.remember(topic, self.look_up(topic).await?)),
        }
    }

    pub(crate) fn remember(&self, topic: &TopicName, route: Route) -> Arc<Route> {
        let route = Arc::new(route);
        self.routes.write().unwrap_or_else(PoisonError::into_inner).insert(topic.clone(), route.clone());
        route
    }

    /// Asks the brokers for the route of a topic.
    ///
    /// # Errors
    /// `NotFound` if the topic does not exist; those of the connection.
    pub(crate) async fn look_up(&self, topic: &TopicName) -> Result<Route> {
        let partitions = self.partitions(topic.as_str()).await.map_err(|error| error.of(topic))?;
        let config = self.describe(topic.as_str()).await?;
        let label = config.and_then(|config| config.get(LABEL)?.value.as_ref()?.parse::<u64>().ok());
        Ok(Route::found(topic, partitions, label))
    }

    /// The settings of a topic. `None` without the right to read them: the topic may be used all the same.
    pub(crate) async fn describe(&self, topic: &str) -> Result<Option<ConfigResource>> {
        let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT));
        let described = self.client.admin()?.describe_configs([&ResourceSpecifier::Topic(topic)], &options).await;
        let described = described.map_err(|source| error::error("declare", source).of(topic))?;
        Ok(described.into_iter().next().and_then(|resource| resource.ok()))
    }

    /// The number of partitions, once all of them have a leader.
    pub(crate) async fn partitions(&self, topic: &str) -> Result<u32> {
        let began = Instant::now();
        loop {
            let name = topic.to_owned();
            let ask = move |client: &rdkafka::client::Client<_>| {
                client.fetch_metadata(Some(&name), REQUEST_TIMEOUT).map(|all| count(&all, &name))
            };
            match self.client.ask("look up", ask).await? {
                Ok(Some(count)) => return Ok(count),
                Err(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                    return Err(Error::new(ErrorKind::NotFound, "look up", "no such topic; declare it first"));
                }
                Err(code) if code != RDKafkaErrorCode::LeaderNotAvailable => {
                    return Err(error::refused("look up", code));
                }
                _ if began.elapsed() > REQUEST_TIMEOUT => {
                    return Err(Error::new(ErrorKind::Disconnected, "look up", "a partition has no leader"));
                }
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// The births of these topics, as far as they exist and this client has the right to know.
    pub(crate) async fn births(
        &self,
        operation: &'static str,
        topics: &[&str],
        within: Duration,
    ) -> Result<BTreeMap<String, Birth>> {
        let named: Vec<ResourceSpecifier<'_>> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
        let options = AdminOptions::new().request_timeout(Some(within));
        let described = self.client.admin()?.describe_configs(&named, &options).await;
        let described = described.map_err(|source| error::error(operation, source))?;
        let known = described.into_iter().flatten().filter_map(|config| match &config.specifier {
            OwnedResourceSpecifier::Topic(name) => Some((name.clone(), Birth::from_settings(&config))),
            _ => None,
        });
        Ok(known.collect())
    }

    /// Looks this topic up regularly for as long as the result is held. Must be called within tokio's runtime.
    pub(crate) fn watch(self: &Arc<Self>, name: &str) -> Arc<Watched> {
        let watched = self.watched.get(name);
        if !self.is_watching.swap(true, Ordering::AcqRel) {
            tokio::spawn(watch(Arc::downgrade(self), self.hurry.clone()));
        }
        watched
    }

    /// Looks all topics in use up soon, because a change is suspected.
    pub(crate) fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// Looks a topic up now.
    pub(crate) async fn look_at(&self, topic: &Watched) -> Result<()> {
        let births = self.births("look up", &[topic.name()], REQUEST_TIMEOUT).await;
        let births = births.map_err(|error| error.of(topic.name()))?;
        self.note(topic, &births);
        Ok(())
    }

    /// Looks all of these topics up now. After a failure the known births stay.
    pub(crate) async fn look_at_all(&self, topics: &[Arc<Watched>]) {
        let names: Vec<&str> = topics.iter().map(|topic| topic.name()).collect();
        if names.is_empty() || self.client.is_closed() {
            return;
        }
        match self.births("look up", &names, WATCH_TIMEOUT).await {
            Ok(births) => topics.iter().for_each(|topic| self.note(topic, &births)),
            Err(error) => tracing::debug!(target: TARGET, %error, "looking up the births of topics"),
        }
    }

    /// Takes note of a birth. If the topic was created again, its route and its producer state are void.
    fn note(&self, topic: &Watched, births: &BTreeMap<String, Birth>) {
        let name = topic.name();
        if topic.note(births.get(name).copied().unwrap_or(Birth::UNKNOWN)) {
            tracing::warn!(target: TARGET, topic = name, "the topic was deleted and created again");
            self.routes.write().unwrap_or_else(PoisonError::into_inner).retain(|topic, _| topic.as_str() != name);
            if let Ok(producer) = self.client.producer() {
                producer.created_again(name);
            }
        }
    }
}

async fn watch(topics: Weak<Topics>, hurry: Arc<Notify>) {
    let mut wait = WATCH_EVERY;
    loop {
        let _hurried = tokio::time::timeout(wait, hurry.notified()).await;
        let Some(topics) = topics.upgrade().filter(|topics| !topics.client.is_closed()) else { return };
        let in_use = topics.watched.in_use();
        topics.look_at_all(&in_use).await;
        wait = WATCH_EVERY + WATCH_EACH * u32::try_from(in_use.len()).unwrap_or(u32::MAX);
    }
}

/// The number of partitions of a topic; `None` while one of them has no leader.
fn count(metadata: &Metadata, topic: &str) -> Result<Option<u32>, RDKafkaErrorCode> {
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let found = found.ok_or(RDKafkaErrorCode::UnknownTopic)?;
    if let Some(error) = found.error() {
        return Err(error.into());
    }
    let led = found.partitions().iter().all(|partition| partition.leader() >= 0);
    Ok(led.then(|| u32::try_from(found.partitions().len()).unwrap_or(u32::MAX)))
}

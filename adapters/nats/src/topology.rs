//! Declares topics and subscriptions: missing ones are created, existing ones are compared.

use std::sync::Arc;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::consumer::Config as ConsumerConfig;
use async_nats::jetstream::stream::{self, Config, StorageType};
use futures::future::try_join_all;
use partitura_broker::{
    DeclareMode, Error, ErrorKind, Ordering, Partition, Result, Subscription, SubscriptionName, Topic, TopicKind,
    Topology,
};

use crate::client::Connection;
use crate::consumers::{self, Action};
use crate::options::Settings;
use crate::topics::{KnownTopic, Topics};
use crate::{error, names, requirements, topics};

const DECLARE: &str = "declare";

/// The number of requests that are under way at once.
const CONCURRENT_REQUESTS: usize = 32;

pub(crate) struct Declaration<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) settings: &'a Settings,
    pub(crate) topics: &'a Topics,
    pub(crate) mode: DeclareMode,
}

impl Declaration<'_> {
    pub(crate) async fn all(&self, topology: &Topology) -> Result<()> {
        for some in topology.topics.chunks(CONCURRENT_REQUESTS) {
            try_join_all(some.iter().map(|topic| self.topic(topic))).await?;
        }
        for subscription in &topology.subscriptions {
            self.subscription(subscription).await?;
        }
        Ok(())
    }

    async fn topic(&self, topic: &Topic) -> Result<()> {
        let config = match self.topics.stream(self.connection, DECLARE, &topic.name).await? {
            Some(config) => config,
            None if self.mode == DeclareMode::Verify => return Err(missing(topic, "there is no such topic")),
            None => self.create(topic).await?,
        };
        compare(topic, &config)?;
        requirements::check(DECLARE, topic, &config, self.settings.replicas)?;
        if topic.kind == TopicKind::Stream {
            let known = KnownTopic::new(self.topics.prefix(), topic.clone());
            let schedules = consumers::schedules(names::schedules(self.topics.prefix(), &topic.name));
            self.consumer(&known, schedules, "consumer of delayed messages").await?;
        }
        Ok(())
    }

    async fn create(&self, topic: &Topic) -> Result<Config> {
        let config = self.stream(topic);
        let request = format!("STREAM.CREATE.{}", config.name);
        match self.connection.ask::<stream::Info>(DECLARE, &topic.name, request, &config).await? {
            Ok(info) => Ok(info.config),
            // Another process has just created it, with another configuration.
            Err(e) if e.error_code() == ErrorCode::STREAM_NAME_EXIST => {
                let found = self.topics.stream(self.connection, DECLARE, &topic.name).await?;
                found.ok_or_else(|| error::refused(DECLARE, &topic.name, e))
            }
            Err(e) => Err(error::refused(DECLARE, &topic.name, e)),
        }
    }

    fn stream(&self, topic: &Topic) -> Config {
        let prefix = self.topics.prefix();
        Config {
            name: names::stream(prefix, &topic.name),
            description: Some(format!("topic {} of Partitura", topic.name)),
            subjects: vec![names::subjects(prefix, &topic.name), names::schedules(prefix, &topic.name)],
            retention: requirements::retention(topic.kind),
            storage: StorageType::File,
            num_replicas: self.settings.replicas.unwrap_or(1),
            allow_message_schedules: true,
            // A schedule replaces the earlier one on its subject.
            allow_rollup: true,
            metadata: topics::describe(topic),
            ..Config::default()
        }
    }

    async fn subscription(&self, subscription: &Subscription) -> Result<()> {
        let mut covered: Vec<Arc<KnownTopic>> = Vec::with_capacity(subscription.topics.len());
        for name in &subscription.topics {
            covered.push(self.topics.get(self.connection, DECLARE, name).await?);
        }
        // Topics outside of this topology could not be checked before.
        if let Some(other) = covered.iter().find(|known| known.topic.ordering != covered[0].topic.ordering) {
            let message = format!(
                "covers {} ({:?}) and {} ({:?}); the topics of one subscription need the same ordering",
                covered[0].topic.name, covered[0].topic.ordering, other.topic.name, other.topic.ordering
            );
            return Err(Error::new(ErrorKind::InvalidArgument, DECLARE, message).of(&subscription.name));
        }
        for known in &covered {
            let configs = expected(known, &subscription.name);
            for some in configs.chunks(CONCURRENT_REQUESTS) {
                let what = format!("subscription {}", subscription.name);
                try_join_all(some.iter().map(|config| self.consumer(known, config.clone(), &what))).await?;
            }
        }
        Ok(())
    }

    /// Creates a consumer, or compares the one that exists. A consumer that is in use is not changed.
    async fn consumer(&self, known: &KnownTopic, config: ConsumerConfig, what: &str) -> Result<()> {
        let topic = &known.topic;
        let name = config.durable_name.clone().unwrap_or_default();
        if let Some(info) = consumers::find(self.connection, DECLARE, known, &name).await? {
            return compare_consumer(topic, &name, &config, &info.config);
        }
        if self.mode == DeclareMode::Verify {
            return Err(missing(topic, &format!("there is no {what}")));
        }
        match consumers::write(self.connection, DECLARE, known, &config, Action::Create).await? {
            Ok(info) => compare_consumer(topic, &name, &config, &info.config),
            // Another process has just created it, and perhaps an owner has claimed it already.
            Err(e) if e.error_code() == ErrorCode::CONSUMER_ALREADY_EXISTS => Ok(()),
            Err(e) if e.error_code() == ErrorCode::CONSUMER_WQ_CONSUMER_NOT_UNIQUE => {
                let message = "is a queue and has another subscription; declare it as a stream to give it several";
                Err(Error::new(ErrorKind::Incompatible, DECLARE, message).of(&topic.name).because(e))
            }
            Err(e) => Err(error::refused(DECLARE, &topic.name, e)),
        }
    }
}

/// The consumers of a subscription for one of its topics.
fn expected(known: &KnownTopic, subscription: &SubscriptionName) -> Vec<ConsumerConfig> {
    match known.topic.ordering {
        Ordering::Shared => vec![consumers::shared(known, subscription, None)],
        Ordering::ByKey { partitions } => (0..partitions)
            .map(Partition)
            .map(|p| consumers::owned(known, names::owned_consumer(subscription, p), p, None))
            .collect(),
    }
}

fn compare(topic: &Topic, config: &Config) -> Result<()> {
    let Some(found) = topics::read(&topic.name, config) else {
        return Err(differs(topic, &format!("the stream {} exists and was not made by Partitura", config.name)));
    };
    if found.kind != topic.kind {
        return Err(differs(topic, &format!("a {:?} was asked for, it is a {:?}", topic.kind, found.kind)));
    }
    if found.ordering != topic.ordering {
        let text = |ordering| match ordering {
            Ordering::ByKey { partitions } => format!("{partitions} partitions ordered by key"),
            Ordering::Shared => "a shared topic without order".to_owned(),
        };
        let message = format!("{} were asked for, it has {}", text(topic.ordering), text(found.ordering));
        return Err(differs(topic, &message));
    }
    Ok(())
}

fn compare_consumer(topic: &Topic, name: &str, expected: &ConsumerConfig, found: &ConsumerConfig) -> Result<()> {
    let kind = |config: &ConsumerConfig| if config.deliver_subject.is_some() { "push" } else { "pull" };
    for (what, expected, found) in [
        ("kind", kind(expected).to_owned(), kind(found).to_owned()),
        ("filter subject", expected.filter_subject.clone(), found.filter_subject.clone()),
        ("ack policy", format!("{:?}", expected.ack_policy), format!("{:?}", found.ack_policy)),
        ("deliver policy", format!("{:?}", expected.deliver_policy), format!("{:?}", found.deliver_policy)),
    ] {
        if expected != found {
            return Err(differs(topic, &format!("the {what} of its consumer {name} is {found}, {expected} is needed")));
        }
    }
    Ok(())
}

fn missing(topic: &Topic, message: &str) -> Error {
    Error::new(ErrorKind::NotFound, DECLARE, message).of(&topic.name)
}

fn differs(topic: &Topic, message: &str) -> Error {
    Error::new(ErrorKind::Incompatible, DECLARE, message).of(&topic.name)
}

#[cfg(test)]
mod tests {
    use partitura_broker::TopicName;

    use super::*;

    fn topic(kind: TopicKind, ordering: Ordering) -> Topic {
        Topic { name: TopicName::new("orders").expect("a valid name"), kind, ordering }
    }

    #[test]
    fn a_difference_is_named_with_both_sides() {
        let four = Ordering::ByKey { partitions: 4 };
        let asked = topic(TopicKind::Queue, four);
        let config = |found: &Topic| Config { metadata: topics::describe(found), ..Config::default() };
        assert!(compare(&asked, &config(&asked)).is_ok());
        for (found, text) in [
            (
                topic(TopicKind::Queue, Ordering::ByKey { partitions: 8 }),
                "4 partitions ordered by key were asked for, it has 8",
            ),
            (topic(TopicKind::Queue, Ordering::Shared), "without order"),
            (topic(TopicKind::Stream, four), "a Queue was asked for, it is a Stream"),
        ] {
            let error = compare(&asked, &config(&found)).expect_err(text);
            assert_eq!(error.kind(), ErrorKind::Incompatible);
            assert!(error.to_string().contains(text), "{error}");
        }
        let error = compare(&asked, &Config { name: "theirs".into(), ..Config::default() }).expect_err("theirs");
        assert!(error.to_string().contains("not made by Partitura"), "{error}");
    }
}

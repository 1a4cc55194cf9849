//! The logs of new topics.
//!
//! A cluster that has created a topic in the place of a deleted one goes on with the deleted one for a moment. Its
//! brokers learn of the change one after another, and a broker shows the new topic before it has replaced the log. A
//! request to write names the topic by its name, so that a record may be confirmed and still go into the log that is
//! deleted a moment later. So nobody is told that a topic was created before
//!
//! * each broker shows it: the settings that it tells have the [birth](crate::birth) of the new topic;
//! * the leader of each partition has its log: a request to read names the topic by the id that the brokers show, and is
//!   refused until the log is that of this id.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use partitura_adapter_kit::Backoff;
use partitura_broker::telemetry::TARGET;
use partitura_broker::{Error, ErrorKind, Result};
use rdkafka::admin::{
    AdminOptions, ConfigResource, ConfigResourceResult, NewTopic, OwnedResourceSpecifier, ResourceSpecifier,
};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::Message as _;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::birth::{self, Setting};
use crate::callbacks::Callbacks;
use crate::client::Client;
use crate::error;

/// The longest time in which all brokers know the topics and have their logs.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The time in which a broker has to answer. One of several that does not answer is passed over: it confirms no record
/// either.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause before a broker is asked again. It is busy.
const PAUSE: Backoff = Backoff { first: Duration::from_millis(50), longest: Duration::from_secs(1) };
/// The longest wait for a record before the time is looked at.
const TICK: Duration = Duration::from_millis(100);

/// The topics that this process has created and not [waited](wait) for. Somebody else may have stopped waiting.
pub(crate) type NewLogs = Mutex<BTreeMap<String, NewLog>>;

/// A topic that this process has created.
#[derive(Debug, Clone)]
pub(crate) struct NewLog {
    topic: String,
    partitions: i32,
    birth: Option<Setting>,
}

impl NewLog {
    pub(crate) fn new(topic: &NewTopic<'_>) -> Self {
        let birth = birth::setting(&topic.config);
        Self { topic: topic.name.to_owned(), partitions: topic.num_partitions, birth }
    }

    /// Whether these are the settings of this topic, and not of one that had its name before.
    fn is_described_by(&self, config: &ConfigResource) -> bool {
        let is_born =
            |birth: &Setting| config.get(birth.name).is_some_and(|entry| entry.value.as_ref() == Some(&birth.value));
        let is_named = matches!(&config.specifier, OwnedResourceSpecifier::Topic(name) if *name == self.topic);
        is_named && self.birth.as_ref().is_none_or(is_born)
    }
}

/// Waits until the brokers have the logs of the new topics, and not those of deleted topics of the same names.
///
/// # Errors
/// `Timeout` if one has not within 30 s; those of the connection.
pub(crate) async fn wait(client: &Client, topics: Vec<NewLog>) -> Result<()> {
    let until = Instant::now() + TIMEOUT;
    for broker in client.brokers() {
        shown(client, *broker, &topics, until).await?;
    }
    let mut config = client.target().reader_config();
    config.set("enable.partition.eof", "true").set("fetch.wait.max.ms", "10");
    client.blocking("declare", move || read_all(&config, &topics, until)).await?
}

/// Waits until a broker shows the new topics.
async fn shown(client: &Client, broker: i32, topics: &[NewLog], until: Instant) -> Result<()> {
    let options = AdminOptions::new().request_timeout(Some(ANSWER_TIMEOUT)).broker_id(broker);
    let is_the_only_one = client.brokers().len() == 1;
    let mut hidden: Vec<&NewLog> = topics.iter().collect();
    for attempt in 1.. {
        let named: Vec<ResourceSpecifier<'_>> = hidden.iter().map(|new| ResourceSpecifier::Topic(&new.topic)).collect();
        match client.admin()?.describe_configs(&named, &options).await {
            // Without the right to read settings nothing can be known.
            Ok(described) if described.iter().any(is_denied) => return Ok(()),
            Ok(described) => {
                let is_shown = |new: &NewLog| described.iter().flatten().any(|config| new.is_described_by(config));
                hidden.retain(|new| !is_shown(new));
            }
            Err(source) if is_the_only_one && Instant::now() >= until => return Err(error::error("declare", source)),
            Err(_) if is_the_only_one => {}
            Err(_) => return Ok(()),
        }
        let Some(first) = hidden.first() else { break };
        if Instant::now() >= until {
            let text = format!("it was created, and after {TIMEOUT:?} broker {broker} does not show it yet");
            return Err(Error::new(ErrorKind::Timeout, "declare", text).of(&first.topic));
        }
        tokio::time::sleep(PAUSE.delay(attempt, u64::MAX)).await;
    }
    Ok(())
}

fn is_denied(described: &ConfigResourceResult) -> bool {
    described.as_ref().is_err_and(|code| error::kind(*code) == ErrorKind::Unauthorized)
}

/// Blocks.
fn read_all(config: &ClientConfig, topics: &[NewLog], until: Instant) -> Result<()> {
    let consumer = BaseConsumer::from_config_and_context(config, Callbacks::default());
    let consumer = consumer.map_err(|source| error::error("declare", source))?;
    // It has no group, so that nobody waits for an answer of it.
    consumer.context().close();
    topics.iter().try_for_each(|topic| {
        begin(&consumer, topic).map_err(|source| error::error("declare", source).of(&topic.topic))?;
        read(&consumer, topic, until)
    })
}

fn begin(consumer: &BaseConsumer<Callbacks>, topic: &NewLog) -> KafkaResult<()> {
    let mut start = TopicPartitionList::new();
    for partition in 0..topic.partitions {
        start.add_partition_offset(&topic.topic, partition, Offset::Offset(0))?;
    }
    consumer.assign(&start)
}

/// Reads until each partition has given its end or a record.
fn read(consumer: &BaseConsumer<Callbacks>, topic: &NewLog, until: Instant) -> Result<()> {
    let mut waiting: BTreeSet<i32> = (0..topic.partitions).collect();
    while !waiting.is_empty() {
        match consumer.poll(TICK) {
            Some(Ok(record)) => drop(waiting.remove(&record.partition())),
            Some(Err(KafkaError::PartitionEOF(partition))) => drop(waiting.remove(&partition)),
            Some(Err(error)) => {
                // The client asks again, except without the right to read.
                let code = error.rdkafka_error_code();
                if code.is_some_and(|code| error::kind(code) == ErrorKind::Unauthorized) {
                    tracing::debug!(target: TARGET, %error, topic = topic.topic, "using a new topic unread");
                    return Ok(());
                }
            }
            None => {}
        }
        if !waiting.is_empty() && Instant::now() >= until {
            let text =
                format!("it was created, and after {TIMEOUT:?} the leaders of {waiting:?} have no log of it yet");
            return Err(Error::new(ErrorKind::Timeout, "declare", text).of(&topic.topic));
        }
    }
    Ok(())
}

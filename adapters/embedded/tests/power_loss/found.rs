//! The state, as read through the contract.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use partitura_broker::{
    Broker, Clock, ConsumerOptions, Credit, Event, Message, ProducerOptions, Result, ScanRange, SystemClock, Timestamp,
    Transactions, partition_of,
};
use partitura_embedded::{Embedded, Options};

use crate::expected::{Expected, PLACES};
use crate::script::{PARTITIONS, SPACE, TOPICS, named, places};

/// Longer than any delay of a script.
const LATER: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const EVENT_LIMIT: Duration = Duration::from_secs(20);
const LAST: &str = "the-last";

/// A time at which every delay is over.
#[derive(Debug)]
struct Later;

impl Clock for Later {
    fn now(&self) -> Timestamp {
        SystemClock.now() + LATER
    }
}

/// The content of the files.
#[derive(Debug)]
pub(crate) struct Found(Expected);

/// Opens the files and reads everything; leaves it there, and closes them.
pub(crate) async fn read(directory: &Path) -> Result<Found> {
    let broker = Embedded::open(directory, Options::default().clock(Arc::new(Later)))?;
    let mut found =
        Expected { is_declared: broker.declare(&places().verify_only()).await.is_ok(), ..Expected::default() };
    if found.is_declared {
        // Behind everything else, in each partition of each topic, and so in each place.
        let last =
            ["q", "e"].into_iter().flat_map(|topic| (0..PARTITIONS).map(move |partition| last(topic, partition)));
        let producer = broker.producer(ProducerOptions::default()).await?;
        producer.publish(last.collect()).await.into_iter().try_for_each(|result| result.map(drop))?;
        for (waiting, (topic, subscription)) in found.waiting.iter_mut().zip(PLACES) {
            *waiting = drain(&broker, topic, subscription).await?;
        }
    }
    for name in TOPICS {
        if broker.declare(&named(name).verify_only()).await.is_ok() {
            found.topics.insert(name.to_owned());
        }
    }
    for entry in broker.scan(ScanRange::prefix(SPACE, ""), usize::MAX).await? {
        found.values.insert(entry.key.to_vec(), (entry.version, entry.value.to_vec()));
    }
    broker.close().await?;
    Ok(Found(found))
}

/// Everything that waits, up to the last message of each partition.
async fn drain(broker: &Embedded, topic: &str, subscription: &str) -> Result<Vec<Message>> {
    let credit = Credit { messages: (1 << 20).try_into().unwrap(), bytes: (1 << 30).try_into().unwrap() };
    let options = ConsumerOptions::new(subscription.parse()?, [topic.parse()?]).credit(credit);
    let mut consumer = broker.consumer(options).await?;
    let (mut found, mut left) = (Vec::new(), PARTITIONS);
    while left > 0 {
        let event = tokio::time::timeout(EVENT_LIMIT, consumer.next()).await.expect("the last message comes")?;
        let Event::Deliveries(deliveries) = event else { continue };
        for delivery in deliveries {
            if delivery.message.id.as_str() == LAST {
                left -= 1;
                consumer.settle(&[delivery.token]);
            } else {
                assert!(delivery.redelivered, "it may have been delivered before: {delivery:?}");
                found.push(delivery.message);
            }
        }
    }
    // Closing the broker stores the settlements.
    Ok(found)
}

fn last(topic: &str, partition: u32) -> Message {
    let belongs = |key: &String| partition_of(key.as_bytes(), PARTITIONS).0 == partition;
    let key = (0_u32..).map(|number| number.to_string()).find(belongs).unwrap();
    Message::new(topic.parse().unwrap(), LAST, "").key(key)
}

impl Found {
    pub(crate) fn is(&self, expected: &Expected) -> bool {
        let Expected { waiting, values, topics, is_declared } = &self.0;
        (values, topics, is_declared) == (&expected.values, &expected.topics, &expected.is_declared)
            && waiting.iter().zip(&expected.waiting).all(|(found, expected)| same(found, expected))
    }

    /// The differences, as text for people.
    pub(crate) fn difference(&self, expected: &Expected) -> String {
        let ids = |messages: &[Message]| messages.iter().map(|message| message.id.to_string()).collect::<Vec<_>>();
        let mut differences = Vec::new();
        for ((found, expected), place) in self.0.waiting.iter().zip(&expected.waiting).zip(PLACES) {
            if !same(found, expected) {
                differences.push(format!("{place:?}: found {:?}, expected {:?}", ids(found), ids(expected)));
            }
        }
        let keys =
            |of: &Expected| of.values.iter().map(|(key, (version, _))| (key.clone(), *version)).collect::<Vec<_>>();
        if self.0.values != expected.values {
            differences.push(format!("values: found {:?}, expected {:?}", keys(&self.0), keys(expected)));
        }
        if (&self.0.topics, self.0.is_declared) != (&expected.topics, expected.is_declared) {
            differences.push(format!("topics: found {:?}, expected {:?}", self.0.topics, expected.topics));
        }
        differences.join("; ")
    }
}

/// The same messages, those of a key that were not delayed in the same order.
fn same(found: &[Message], expected: &[Message]) -> bool {
    let ids: BTreeSet<&str> = found.iter().map(|message| message.id.as_str()).collect();
    let in_order = |messages: &[Message]| {
        let mut by_key: BTreeMap<Vec<u8>, Vec<String>> = BTreeMap::new();
        for message in messages.iter().filter(|message| message.not_before.is_none()) {
            by_key.entry(message.key.as_deref().unwrap_or_default().to_vec()).or_default().push(message.id.to_string());
        }
        by_key
    };
    found.len() == expected.len()
        && ids.len() == found.len()
        && expected.iter().all(|message| found.contains(message))
        && in_order(found) == in_order(expected)
}

/// Works on with the files, to show that they can be used, and closes them. Returns the content afterwards.
pub(crate) async fn go_on(directory: &Path, state: &Expected) -> Expected {
    let mut state = state.clone();
    let broker = Embedded::open(directory, Options::default()).unwrap();
    broker.declare(&places()).await.unwrap();
    state.is_declared = true;
    let producer = broker.producer(ProducerOptions::default()).await.unwrap();
    for number in 0..20 {
        let message = Message::new("q".parse().unwrap(), format!("later-{number}"), vec![7; 300]).key("k");
        producer.publish(vec![message.clone()]).await.remove(0).unwrap();
        state.publish(&message);
    }
    broker.close().await.unwrap();
    state
}

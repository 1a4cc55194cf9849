//! A consumer in the background, and messages for it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use partitura_broker::{Broker, ConsumerOptions, Event, Message, Producer, SubscriptionName, Timestamp, TopicName};
use partitura_kafka::Kafka;

use super::Done;

/// The time limit for each step. A message that is stuck would stay longer.
pub(crate) const TIME_LIMIT: Duration = Duration::from_secs(90);

/// Consumes and settles in the background until it is dropped.
pub(crate) struct Consuming {
    seen: Arc<Mutex<BTreeSet<String>>>,
    pub(crate) task: tokio::task::JoinHandle<()>,
}

impl Consuming {
    pub(crate) async fn start(
        broker: &Kafka,
        name: &SubscriptionName,
        topics: &[TopicName],
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let mut consumer = broker.consumer(ConsumerOptions::new(name.clone(), topics.iter().cloned())).await?;
        let seen = Arc::<Mutex<BTreeSet<String>>>::default();
        let ids = seen.clone();
        let task = tokio::spawn(async move {
            loop {
                match consumer.next().await {
                    Ok(Event::Deliveries(deliveries)) => {
                        consumer.settle(&deliveries.iter().map(|delivery| delivery.token).collect::<Vec<_>>());
                        let mut seen = ids.lock().expect("no thread panics");
                        seen.extend(deliveries.iter().map(|delivery| delivery.message.id.to_string()));
                    }
                    Ok(Event::Revoking { partitions, .. }) => drop(consumer.release(&partitions).await),
                    Ok(_) => {}
                    Err(error) if error.is_retryable() => tokio::time::sleep(Duration::from_millis(50)).await,
                    Err(error) => panic!("{error}"),
                }
            }
        });
        Ok(Self { seen, task })
    }

    /// Waits until all of these messages were delivered to one of the consumers.
    pub(crate) async fn until(all: &[&Self], expected: &BTreeSet<String>) -> Done {
        let began = std::time::Instant::now();
        loop {
            let mut missing = expected.clone();
            for one in all {
                let seen = one.seen.lock().expect("no thread panics");
                missing.retain(|id| !seen.contains(id));
            }
            if missing.is_empty() {
                return Ok(());
            }
            if began.elapsed() > TIME_LIMIT {
                let first: Vec<_> = missing.iter().take(5).collect();
                return Err(format!("{} of {} never came: {first:?} …", missing.len(), expected.len()).into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Consuming {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Publishes until all messages are confirmed. Returns their ids.
pub(crate) async fn publish(
    producer: &dyn Producer,
    topic: &TopicName,
    prefix: &str,
    count: usize,
    delay: Option<Duration>,
) -> Result<BTreeSet<String>, Box<dyn std::error::Error>> {
    let due = delay.map(|delay| SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map(|now| now + delay));
    let due = due.transpose()?.map(|due| Timestamp::from_millis(due.as_millis() as u64));
    let mut left: Vec<Message> = (0..count)
        .map(|i| {
            let message = Message::new(topic.clone(), format!("{prefix}-{i}"), "payload").key(format!("k{}", i % 64));
            match due {
                Some(due) => message.not_before(due),
                None => message,
            }
        })
        .collect();
    let ids = left.iter().map(|message| message.id.to_string()).collect();
    let began = std::time::Instant::now();
    while !left.is_empty() {
        let results = producer.publish(left.clone()).await;
        let failed = results.iter().map(Result::is_err).collect::<Vec<_>>();
        if let Some(error) = results.into_iter().find_map(Result::err).filter(|_| began.elapsed() > TIME_LIMIT) {
            return Err(error.into());
        }
        let mut failed = failed.into_iter();
        left.retain(|_| failed.next().unwrap_or(false));
    }
    Ok(ids)
}

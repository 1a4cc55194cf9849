//! Clients for the cases: they wait for expected events, and a failure ends the case.

use std::sync::Arc;
use std::time::Duration;

use partitura_broker::{
    AckToken, Broker, Consumer, ConsumerOptions, Credit, Delivery, Error, Event, Message, Ordering, Producer,
    ProducerOptions, Receipt, SubscriptionName, Timestamp, TopicName, Topology,
};

use crate::Stop;

/// The wait before a failed operation is tried again.
pub(crate) const A_MOMENT: Duration = Duration::from_millis(50);

/// A queue, or a stream, and one subscription of it.
#[derive(Debug, Clone)]
pub(crate) struct Queue {
    pub(crate) topic: TopicName,
    pub(crate) subscription: SubscriptionName,
    pub(crate) ordering: Ordering,
}

impl Queue {
    pub(crate) fn new(namespace: &str, name: &str, ordering: Ordering) -> Self {
        let named = |what: &str| format!("{namespace}.{what}");
        Self {
            topic: TopicName::new(named(name)).expect("a case's names are valid"),
            subscription: SubscriptionName::new(named(&format!("{name}-reader"))).expect("a case's names are valid"),
            ordering,
        }
    }

    pub(crate) fn topology(&self) -> Topology {
        Topology::new()
            .queue(self.topic.clone(), self.ordering)
            .subscription(self.subscription.clone(), [self.topic.clone()])
    }

    pub(crate) fn stream(&self) -> Topology {
        Topology::new()
            .stream(self.topic.clone(), self.ordering)
            .subscription(self.subscription.clone(), [self.topic.clone()])
    }

    pub(crate) fn options(&self) -> ConsumerOptions {
        ConsumerOptions::new(self.subscription.clone(), [self.topic.clone()])
    }

    /// The message `number` of `key`, with the id `key-number`.
    pub(crate) fn message(&self, key: &str, number: usize) -> Message {
        let id = format!("{key}-{number}");
        Message::new(self.topic.clone(), id.clone(), id).key(key.to_owned().into_bytes())
    }

    /// Messages of one key.
    pub(crate) fn messages(&self, key: &str, numbers: impl IntoIterator<Item = usize>) -> Vec<Message> {
        numbers.into_iter().map(|number| self.message(key, number)).collect()
    }

    /// Messages of several keys in turn, the same number of each.
    pub(crate) fn spread(&self, keys: usize, each: usize) -> Vec<Message> {
        let all = (0..each).flat_map(|number| (0..keys).map(move |key| (key, number)));
        all.map(|(key, number)| self.message(&format!("k{key}"), number)).collect()
    }
}

/// A connection.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    broker: Arc<dyn Broker>,
    time_limit: Duration,
}

impl Client {
    pub(crate) fn new(broker: Arc<dyn Broker>, time_limit: Duration) -> Self {
        Self { broker, time_limit }
    }

    pub(crate) fn broker(&self) -> &dyn Broker {
        &*self.broker
    }

    pub(crate) fn shared(&self) -> Arc<dyn Broker> {
        self.broker.clone()
    }

    pub(crate) async fn declare(&self, topology: &Topology) -> Result<(), Stop> {
        within(self.time_limit, "declare", self.broker.declare(topology)).await??;
        Ok(())
    }

    pub(crate) async fn producer(&self) -> Result<Arc<dyn Producer>, Stop> {
        Ok(within(self.time_limit, "a producer", self.broker.producer(ProducerOptions::default())).await??.into())
    }

    /// Publishes; every message must be confirmed.
    pub(crate) async fn publish(&self, batch: Vec<Message>) -> Result<Vec<Receipt>, Stop> {
        let results = self.try_publish(batch).await?;
        Ok(results.into_iter().collect::<Result<Vec<_>, Error>>()?)
    }

    pub(crate) async fn try_publish(&self, batch: Vec<Message>) -> Result<Vec<Result<Receipt, Error>>, Stop> {
        let count = batch.len();
        let producer = self.producer().await?;
        let results = within(self.time_limit, "confirms", producer.publish(batch)).await?;
        if results.len() != count {
            return Err(format!("{} results for {count} messages", results.len()).into());
        }
        Ok(results)
    }

    /// Cancels delayed messages; each must be answered.
    pub(crate) async fn cancel<'m>(&self, messages: impl IntoIterator<Item = &'m Message>) -> Result<Vec<bool>, Stop> {
        let delayed: Vec<_> = messages.into_iter().filter_map(Message::delayed).collect();
        let count = delayed.len();
        let producer = self.producer().await?;
        let results = within(self.time_limit, "answers", producer.cancel(delayed)).await?;
        if results.len() != count {
            return Err(format!("{} answers for {count} messages", results.len()).into());
        }
        Ok(results.into_iter().collect::<Result<_, Error>>()?)
    }

    pub(crate) async fn join(&self, options: ConsumerOptions) -> Result<Member, Stop> {
        let consumer = within(self.time_limit, "a consumer", self.broker.consumer(options)).await??;
        Ok(Member { consumer, time_limit: self.time_limit })
    }
}

/// A consumer.
#[derive(Debug)]
pub(crate) struct Member {
    consumer: Box<dyn Consumer>,
    time_limit: Duration,
}

impl Member {
    /// The next event.
    pub(crate) async fn next(&mut self) -> Result<Event, Stop> {
        Ok(within(self.time_limit, "the next event", self.consumer.next()).await??)
    }

    /// The next event, without a time limit.
    pub(crate) async fn next_without_limit(&mut self) -> Result<Event, Stop> {
        Ok(self.consumer.next().await?)
    }

    /// The next event, also if the connection breaks before it.
    pub(crate) async fn next_at_last(&mut self) -> Result<Event, Stop> {
        let waiting = async {
            loop {
                match self.consumer.next().await {
                    Err(error) if error.is_retryable() => tokio::time::sleep(A_MOMENT).await,
                    result => return result,
                }
            }
        };
        Ok(within(self.time_limit, "the next event", waiting).await??)
    }

    /// The next event, or `None` after this time.
    pub(crate) async fn next_within(&mut self, limit: Duration) -> Result<Option<Event>, Stop> {
        match tokio::time::timeout(limit, self.consumer.next()).await {
            Ok(event) => Ok(Some(event?)),
            Err(_) => Ok(None),
        }
    }

    /// The next deliveries. Releases partitions that are asked back meanwhile.
    pub(crate) async fn deliveries(&mut self) -> Result<Vec<Delivery>, Stop> {
        loop {
            match self.next().await? {
                Event::Deliveries(deliveries) => return Ok(deliveries),
                Event::Revoking { partitions, .. } => self.consumer.release(&partitions).await?,
                _ => {}
            }
        }
    }

    /// Takes and holds deliveries until there are at least this many.
    pub(crate) async fn take(&mut self, count: usize) -> Result<Vec<Delivery>, Stop> {
        let mut all = Vec::new();
        while all.len() < count {
            let more = self.deliveries().await.map_err(|stop| missing(stop, all.len(), count))?;
            all.extend(more);
        }
        Ok(all)
    }

    /// Takes and settles deliveries until there are at least this many.
    pub(crate) async fn drain(&mut self, count: usize) -> Result<Vec<Delivery>, Stop> {
        let mut all = Vec::new();
        while all.len() < count {
            let more = self.deliveries().await.map_err(|stop| missing(stop, all.len(), count))?;
            self.settle(&more);
            all.extend(more);
        }
        Ok(all)
    }

    /// Takes and settles deliveries until one of each of these ids has come.
    pub(crate) async fn drain_until(&mut self, ids: impl IntoIterator<Item = String>) -> Result<Vec<Delivery>, Stop> {
        let mut missing: std::collections::HashSet<String> = ids.into_iter().collect();
        let mut all = Vec::new();
        while !missing.is_empty() {
            let more = self.deliveries().await.map_err(|stop| {
                let example = missing.iter().next().cloned().unwrap_or_default();
                Stop::new(format!("{stop}; {} messages did not come, {example} for one", missing.len()))
            })?;
            self.settle(&more);
            for delivery in &more {
                missing.remove(delivery.message.id.as_str());
            }
            all.extend(more);
        }
        Ok(all)
    }

    pub(crate) fn settle(&mut self, deliveries: &[Delivery]) {
        self.consumer.settle(&tokens(deliveries));
    }

    pub(crate) async fn flush(&mut self) -> Result<(), Stop> {
        Ok(within(self.time_limit, "a flush", self.consumer.flush()).await??)
    }

    pub(crate) async fn close(self) -> Result<(), Stop> {
        Ok(within(self.time_limit, "the consumer to close", self.consumer.close()).await??)
    }

    pub(crate) fn consumer(&mut self) -> &mut Box<dyn Consumer> {
        &mut self.consumer
    }
}

fn missing(stop: Stop, found: usize, expected: usize) -> Stop {
    Stop::new(format!("{stop}; {found} of {expected} messages came"))
}

async fn within<T>(time_limit: Duration, what: &str, future: impl Future<Output = T>) -> Result<T, Stop> {
    let answer = tokio::time::timeout(time_limit, future).await;
    answer.map_err(|_| Stop::new(format!("nothing came within {time_limit:?}: {what}")))
}

pub(crate) fn tokens(deliveries: &[Delivery]) -> Vec<AckToken> {
    deliveries.iter().map(|delivery| delivery.token).collect()
}

pub(crate) fn ids(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(|delivery| delivery.message.id.as_str()).collect()
}

pub(crate) fn credit(messages: usize) -> Credit {
    Credit { messages: messages.try_into().unwrap_or(std::num::NonZeroUsize::MIN), ..Credit::default() }
}

pub(crate) fn by_key(partitions: u32) -> Ordering {
    Ordering::ByKey { partitions }
}

pub(crate) fn now() -> Timestamp {
    std::time::SystemTime::now().into()
}

/// The same message under another id.
pub(crate) fn renamed(mut message: Message, prefix: &str) -> Message {
    message.id = format!("{prefix}-{}", message.id).into();
    message
}

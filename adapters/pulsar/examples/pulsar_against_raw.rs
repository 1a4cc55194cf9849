//! The adapter against the crate `pulsar` itself: `cargo xtask bench pulsar`.
//!
//! The raw side uses everything that the crate offers for speed: a producer with batches and an exclusive consumer for
//! each partition, and one acknowledgement for each entry. As on all brokers, its messages have an id, here as a
//! property, and a key.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{FuturesUnordered, SelectAll};
use partitura_bench_kit::against::{Adapter, Letter, Letters, Result, Side, Work, compare, report};
use partitura_broker::{Broker, Ordering, SubscriptionName, TopicName, Topology, partition_of};
use partitura_pulsar::{Options, Pulsar};
use partitura_servers::{Kind, Server};
use pulsar::consumer::Message as Got;
use pulsar::producer::{Message, SendFuture};
use pulsar::proto::MessageIdData;
use pulsar::{ConsumerOptions, OperationRetryOptions, Producer, ProducerOptions, SubType, TokioExecutor};

type Client = pulsar::Pulsar<TokioExecutor>;
type Consumer = pulsar::Consumer<Vec<u8>, TokioExecutor>;

#[tokio::main]
async fn main() -> Result<()> {
    let server = Server::new(Kind::Pulsar);
    server.up()?;
    let mut options = Options::default();
    options.admin = server.endpoints().admin;
    let broker = Arc::new(Pulsar::connect(&server.url(), options).await?);
    let work = Work::default();
    let mut raw = Raw::new(&broker, &server.url(), work).await?;
    let mut adapter = Adapter::new(broker.clone(), work).await?;
    report(&compare(&broker.capabilities().broker, work, &mut raw, &mut adapter).await?);
    Ok(())
}

/// The crate's own producers and consumers.
struct Raw {
    work: Work,
    producers: Vec<Producer<TokioExecutor>>,
    consumers: Vec<Consumer>,
    letters: Letters,
}

impl Raw {
    async fn new(broker: &Pulsar, url: &str, work: Work) -> Result<Self> {
        let name = format!("raw-{}", std::process::id());
        let (topic, subscription) = (TopicName::new(&name)?, SubscriptionName::new("scales")?);
        // A partitioned topic, which the crate cannot make.
        let topology = Topology::new()
            .queue(topic.clone(), Ordering::ByKey { partitions: work.partitions })
            .subscription(subscription, [topic]);
        broker.declare(&topology).await?;
        let retry = OperationRetryOptions { max_retries: Some(0), ..OperationRetryOptions::default() };
        let client: Client = Client::builder(url.split_once('?').map_or(url, |(url, _)| url), TokioExecutor)
            .with_operation_retry_options(retry)
            .with_outbound_channel_size(10_000)
            .build()
            .await?;
        let (mut producers, mut consumers) = (Vec::new(), Vec::new());
        for partition in 0..work.partitions {
            let topic = format!("persistent://public/default/{name}-partition-{partition}");
            let options = ProducerOptions {
                batch_size: Some(500),
                batch_byte_size: Some(128 << 10),
                batch_timeout: Some(std::time::Duration::from_millis(1)),
                block_queue_if_full: true,
                ..ProducerOptions::default()
            };
            producers.push(client.producer().with_topic(&topic).with_options(options).build().await?);
            let consumer = client
                .consumer()
                .with_topic(&topic)
                .with_subscription("scales")
                .with_subscription_type(SubType::Exclusive)
                .with_options(ConsumerOptions::default().durable(true));
            consumers.push(consumer.build().await?);
        }
        Ok(Self { work, producers, consumers, letters: Letters::new(work.payload) })
    }

    async fn send(&mut self) -> Result<SendFuture> {
        let Letter { id, key, payload } = self.letters.next().ok_or("letters do not end")?;
        let partition = partition_of(key.as_bytes(), self.work.partitions).0 as usize;
        let properties = HashMap::from([("id".to_owned(), id)]);
        let message = Message { payload, partition_key: Some(key), properties, ..Message::default() };
        Ok(self.producers[partition].send_non_blocking(message).await?)
    }

    /// The next message, acknowledged with the last of its entry.
    async fn next(&mut self, messages: usize) -> Result<()> {
        let mut streams: SelectAll<_> =
            self.consumers.iter_mut().enumerate().map(|(i, consumer)| consumer.map(move |got| (i, got))).collect();
        let mut done: Vec<(usize, MessageIdData)> = Vec::new();
        for _ in 0..messages {
            let (consumer, got) = streams.next().await.ok_or("the stream ended")?;
            let got: Got<Vec<u8>> = got?;
            std::hint::black_box(letter(&got));
            let (id, size) = (&got.message_id.id, got.message_id.batch_size.unwrap_or(1));
            if id.batch_index.is_none_or(|index| index + 1 == size) {
                done.push((consumer, MessageIdData { batch_index: None, ..id.clone() }));
            }
        }
        drop(streams);
        for (consumer, id) in done {
            let topic = self.consumers[consumer].topics().remove(0);
            self.consumers[consumer].ack_with_id(&topic, id).await?;
        }
        Ok(())
    }
}

/// The parts of a message that a handler needs. The payload is the message's own.
fn letter(got: &Got<Vec<u8>>) -> Option<(&str, String)> {
    let metadata = got.metadata();
    let id = metadata.properties.iter().find(|property| property.key == "id");
    Some((&id?.value, got.key()?))
}

#[async_trait]
impl Side for Raw {
    async fn publish(&mut self, messages: usize) -> Result<()> {
        let mut flying = FuturesUnordered::new();
        for _ in 0..messages {
            if flying.len() >= self.work.window {
                flying.next().await.transpose()?;
            }
            flying.push(self.send().await?);
        }
        while let Some(receipt) = flying.next().await {
            receipt?;
        }
        Ok(())
    }

    async fn consume(&mut self, mut messages: usize) -> Result<()> {
        /// Acknowledged together.
        const AT_ONCE: usize = 1_000;
        while messages > 0 {
            let some = messages.min(AT_ONCE);
            self.next(some).await?;
            messages -= some;
        }
        // After the acknowledgements on each connection.
        for consumer in &mut self.consumers {
            consumer.check_connection().await?;
        }
        Ok(())
    }

    async fn ping(&mut self) -> Result<()> {
        let receipt = self.send().await?;
        let (receipt, got) = futures::join!(receipt, self.next(1));
        receipt?;
        got
    }
}

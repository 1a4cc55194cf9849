//! The adapter against rdkafka: `cargo xtask bench kafka`, or with the brokers' URL as the argument.
//!
//! The raw side uses the client as one would for speed within tokio, with the settings of the adapter: an
//! idempotent producer that asks all replicas and lingers for a millisecond, a stream consumer in a group, and a
//! commit every 150 ms. As on all brokers, its messages have an id and a key. It owns the messages that it
//! consumes: key, id and payload are copied once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::stream::{FuturesUnordered, TryStreamExt};
use partitura_bench_kit::against::{Adapter, Letter, Letters, Result, Side, Work, compare, report};
use partitura_broker::Broker;
use partitura_kafka::{Kafka, Options};
use partitura_servers::{Kind, Server};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{CommitMode, Consumer, StreamConsumer};
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord};

/// The interval of commits.
const COMMIT_EVERY: Duration = Duration::from_millis(150);

struct Raw {
    work: Work,
    topic: String,
    producer: FutureProducer,
    consumer: Arc<StreamConsumer>,
    committed: Instant,
    letters: Letters,
}

type Admin = AdminClient<DefaultClientContext>;

impl Raw {
    async fn new(admin: &Admin, url: &str, work: Work) -> Result<Self> {
        let topic = format!("against-raw-{}", uuid::Uuid::now_v7().simple());
        let partitions = i32::try_from(work.partitions)?;
        let new = NewTopic::new(&topic, partitions, TopicReplication::Fixed(-1)).set("retention.ms", "-1");
        for created in admin.create_topics([&new], &AdminOptions::new()).await? {
            created.map_err(|(topic, code)| format!("{topic}: {code}"))?;
        }
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", url.trim_start_matches("kafka://"))
            .set("socket.nagle.disable", "true")
            .set("allow.auto.create.topics", "false");
        let producer = config
            .clone()
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("message.timeout.ms", "0")
            .set("linger.ms", "1")
            // The partitioner of Kafka's own clients, and ours.
            .set("partitioner", "murmur2_random")
            .create()?;
        let consumer: StreamConsumer = config
            .set("group.id", &topic)
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_committed")
            .set("fetch.wait.max.ms", "100")
            .set("fetch.queue.backoff.ms", "10")
            .set("queued.max.messages.kbytes", "16384")
            .create()?;
        consumer.subscribe(&[&topic])?;
        let (consumer, letters) = (Arc::new(consumer), Letters::new(work.payload));
        Ok(Self { work, topic, producer, consumer, committed: Instant::now(), letters })
    }

    /// Queues a message. Returns its confirm.
    fn send(&mut self) -> Result<DeliveryFuture> {
        let Letter { id, key, payload } = self.letters.next().ok_or("letters do not end")?;
        let headers = OwnedHeaders::new_with_capacity(1).insert(Header { key: "id", value: Some(&id) });
        let record = FutureRecord::to(&self.topic).key(&key).payload(&payload).headers(headers);
        Ok(self.producer.send_result(record).map_err(|(error, _)| error)?)
    }

    /// Takes the next message. The client has noted it as done; the broker learns it with the next commit.
    async fn take(&mut self) -> Result<()> {
        let record = self.consumer.recv().await?;
        std::hint::black_box(letter(&record));
        if self.committed.elapsed() > COMMIT_EVERY {
            self.committed = Instant::now();
            self.consumer.commit_consumer_state(CommitMode::Async)?;
        }
        Ok(())
    }
}

/// The parts that a handler needs. They outlive the buffer of the client.
fn letter(record: &BorrowedMessage<'_>) -> Option<Letter> {
    let text = |bytes| std::str::from_utf8(bytes).ok().map(str::to_owned);
    let id = record.headers()?.iter().find(|header| header.key == "id")?.value?;
    Some(Letter { id: text(id)?, key: text(record.key()?)?, payload: record.payload()?.to_vec() })
}

#[async_trait]
impl Side for Raw {
    async fn publish(&mut self, messages: usize) -> Result<()> {
        let mut flying = FuturesUnordered::new();
        for _ in 0..messages {
            if flying.len() >= self.work.window
                && let Some(confirm) = flying.try_next().await?
            {
                delivered(confirm)?;
            }
            flying.push(self.send()?);
        }
        while let Some(confirm) = flying.try_next().await? {
            delivered(confirm)?;
        }
        Ok(())
    }

    async fn consume(&mut self, messages: usize) -> Result<()> {
        for _ in 0..messages {
            self.take().await?;
        }
        let consumer = self.consumer.clone();
        Ok(tokio::task::spawn_blocking(move || consumer.commit_consumer_state(CommitMode::Sync)).await??)
    }

    async fn ping(&mut self) -> Result<()> {
        let confirm = self.send()?;
        let (confirm, taken) = futures::join!(confirm, self.take());
        delivered(confirm?)?;
        taken
    }
}

fn delivered(confirm: rdkafka::producer::future_producer::OwnedDeliveryResult) -> Result<()> {
    confirm.map(drop).map_err(|(error, _)| error.into())
}

#[tokio::main]
async fn main() -> Result<()> {
    let url = std::env::args().nth(1).unwrap_or_else(|| Server::new(Kind::Kafka).url());
    let work = Work { messages: 200_000, ..Work::default() };
    let kafka = Arc::new(Kafka::connect(&url, Options::default()).await?);
    let (name, admin) = (kafka.capabilities().broker.clone(), kafka.client().ok_or("the connection was closed")?);
    let mut raw = Raw::new(&admin, &url, work).await?;
    let mut adapter = Adapter::new(kafka.clone(), work).await?;
    report(&compare(&name, work, &mut raw, &mut adapter).await?);
    let topic = adapter.topic().to_string();
    let timers = format!("_partitura.timers.{topic}");
    drop(adapter);
    admin.delete_topics(&[&raw.topic, &topic, &timers], &AdminOptions::new()).await?;
    drop(admin);
    kafka.close().await?;
    Ok(())
}

//! Measures the work of the broker per second on this machine: `cargo run --release -p partitura-embedded --example
//! throughput`.
//!
//! Everything is durable: a confirmed message, and a committed unit, have been synced. Give a directory to measure its
//! disk, or `memory`; otherwise the directory for temporary files is used.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use partitura_broker::{
    AckToken, Broker, Consumer, ConsumerOptions, Credit, Event, Expect, Message, Ordering, ProducerOptions, Put,
    SubscriptionName, TopicName, Topology, Transactions, Unit,
};
use partitura_embedded::{Embedded, Options};
use tokio::sync::{Semaphore, mpsc};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const PAYLOAD: usize = 256;
const SECONDS: u64 = 4;

#[tokio::main]
async fn main() -> Result<()> {
    let argument = std::env::args().nth(1);
    let temporary = tempfile::tempdir()?;
    let broker = match argument.as_deref() {
        Some("memory") => Embedded::memory(Options::default())?,
        Some(directory) => Embedded::open(directory, Options::default())?,
        None => Embedded::open(temporary.path(), Options::default())?,
    };
    let topology = ["flow", "turns"].into_iter().try_fold(Topology::new(), |topology, name| -> Result<_> {
        let topic: TopicName = name.parse()?;
        Ok(topology.queue(topic.clone(), Ordering::ByKey { partitions: 16 }).subscription(name.parse()?, [topic]))
    })?;
    broker.declare(&topology.stream("nobody".parse()?, Ordering::ByKey { partitions: 16 })).await?;
    println!("{:?}, {PAYLOAD} bytes", broker.capabilities().durability);
    for batch in [1, 100] {
        let count = if batch == 1 { 50_000 } else { 200_000 };
        publish(&broker, "flow", count, batch).await?;
        consume(&broker, count).await?;
    }
    publish(&broker, "nobody", 500_000, 1).await?;
    for in_flight in [1, 50, 500] {
        turns(&broker, in_flight).await?;
    }
    broker.close().await?;
    Ok(())
}

fn message(topic: &TopicName, number: usize) -> Message {
    let id = format!("message-{number}");
    Message::new(topic.clone(), id, Bytes::from_static(&[7; PAYLOAD])).key(format!("order-{}", number % 10_000))
}

/// A hundred tasks publish, each waiting for its confirms.
async fn publish(broker: &Embedded, topic: &str, count: usize, batch: usize) -> Result<()> {
    let topic: TopicName = topic.parse()?;
    let producer: Arc<dyn partitura_broker::Producer> = broker.producer(ProducerOptions::default()).await?.into();
    let began = Instant::now();
    let tasks: Vec<_> = (0..100)
        .map(|task| {
            let (producer, topic) = (producer.clone(), topic.clone());
            tokio::spawn(async move {
                let mut rest = (task..count).step_by(100).peekable();
                while rest.peek().is_some() {
                    let batch = rest.by_ref().take(batch).map(|number| message(&topic, number)).collect();
                    for result in producer.publish(batch).await {
                        result?;
                    }
                }
                Ok::<_, partitura_broker::Error>(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    println!("publish to {topic}, 100 tasks, {batch} a batch: {:.0} messages/s", rate(count, began));
    Ok(())
}

async fn consume(broker: &Embedded, count: usize) -> Result<()> {
    let mut consumer = join(broker, "flow").await?;
    let began = Instant::now();
    let mut seen = 0;
    let mut tokens: Vec<AckToken> = Vec::new();
    while seen < count {
        if let Event::Deliveries(deliveries) = consumer.next().await? {
            seen += deliveries.len();
            tokens.clear();
            tokens.extend(deliveries.iter().map(|delivery| delivery.token));
            consumer.settle(&tokens);
        }
    }
    consumer.close().await?;
    println!("consume and settle: {:.0} messages/s", rate(count, began));
    Ok(())
}

async fn join(broker: &Embedded, name: &str) -> Result<Box<dyn Consumer>> {
    let credit = Credit { messages: 2_000.try_into()?, ..Credit::default() };
    let options = ConsumerOptions::new(name.parse::<SubscriptionName>()?, [name.parse()?]).credit(credit);
    Ok(broker.consumer(options).await?)
}

/// Turns as an engine makes them: settle one, publish one, add one value, in one unit; `in_flight` at a time.
async fn turns(broker: &Embedded, in_flight: usize) -> Result<()> {
    let topic: TopicName = "turns".parse()?;
    let producer = broker.producer(ProducerOptions::default()).await?;
    let first = producer.publish((0..in_flight).map(|number| message(&topic, number)).collect()).await;
    first.into_iter().collect::<std::result::Result<Vec<_>, _>>()?;
    let mut consumer = join(broker, "turns").await?;
    let (done, mut times) = mpsc::unbounded_channel();
    let room = Arc::new(Semaphore::new(in_flight));
    let began = Instant::now();
    let mut number = 0_usize;
    while began.elapsed() < Duration::from_secs(SECONDS) {
        let Event::Deliveries(deliveries) = consumer.next().await? else { continue };
        for delivery in deliveries {
            let permit = room.clone().acquire_owned().await?;
            number += 1;
            let key = format!("checkout\0order-{:08}\0run-{in_flight}\0{number:08}", number * 7_919 % 10_000);
            let (broker, done, topic) = (broker.clone(), done.clone(), topic.clone());
            tokio::spawn(async move {
                let value = Some(Bytes::from_static(&[9; PAYLOAD]));
                let put = Put { space: "turns", key: key.into(), expect: Expect::Absent, value };
                let unit =
                    Unit { settle: vec![delivery.token], publish: vec![message(&topic, number)], put: vec![put] };
                let began = Instant::now();
                let result = broker.commit(vec![unit]).await.remove(0);
                drop(permit);
                let _ = done.send(result.map(|()| began.elapsed()));
            });
        }
    }
    let elapsed = began.elapsed();
    drop(done);
    let mut all = Vec::new();
    while let Some(time) = times.recv().await {
        all.push(time?);
    }
    all.sort_unstable();
    let at = |part: usize| all.get(all.len() * part / 1_000).copied().unwrap_or_default();
    println!(
        "turns, {in_flight} in flight: {:.0} units/s, commit p50 {:?}, p99 {:?}, p99.9 {:?}, max {:?}",
        all.len() as f64 / elapsed.as_secs_f64(),
        at(500),
        at(990),
        at(999),
        all.last().copied().unwrap_or_default(),
    );
    // The rest of the queue is dropped with the broker: the next measurement begins with an empty one.
    consumer.close().await?;
    let mut consumer = join(broker, "turns").await?;
    while let Ok(event) = tokio::time::timeout(Duration::from_millis(200), consumer.next()).await {
        if let Event::Deliveries(deliveries) = event? {
            consumer.settle(&deliveries.iter().map(|delivery| delivery.token).collect::<Vec<_>>());
        }
    }
    consumer.close().await?;
    Ok(())
}

fn rate(count: usize, began: Instant) -> f64 {
    count as f64 / began.elapsed().as_secs_f64()
}

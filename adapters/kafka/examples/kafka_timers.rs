//! A million delayed messages: memory, the duration of a takeover, and the lateness of those that fall due.
//!
//! `cargo run --release -p partitura-kafka --example kafka_timers -- kafka://localhost:9092 1000000 100`

use std::time::{Duration, Instant, SystemTime};

use partitura_broker::{
    Broker, Consumer, ConsumerOptions, Event, Message, Ordering, Producer, ProducerOptions, SubscriptionName,
    Timestamp, TopicName, Topology,
};
use partitura_kafka::{Kafka, Options};

type Done<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// The number of messages that are published at once.
const BATCH: usize = 5_000;
/// The number of messages that fall due while the others wait, and the time within which they do.
const PROBES: usize = 2_000;
const WITHIN: u64 = 20_000;

#[tokio::main]
async fn main() -> Done {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, count, size] = arguments.as_slice() else { return Err("URL, count and bytes of a payload".into()) };
    let (count, size): (usize, usize) = (count.parse()?, size.parse()?);
    let (topic, name) = (TopicName::new(format!("timers-{}", now()?))?, SubscriptionName::new("worker")?);
    let broker = Kafka::connect(url, Options::default()).await?;
    let topology = Topology::new().queue(topic.clone(), Ordering::ByKey { partitions: 4 });
    broker.declare(&topology.subscription(name.clone(), [topic.clone()])).await?;
    let producer = broker.producer(ProducerOptions::default()).await?;
    let began = Instant::now();
    let message = |id: String, due: u64| {
        let key = format!("k{}", id.len() + id.bytes().map(usize::from).sum::<usize>());
        Message::new(topic.clone(), id, vec![7; size]).key(key).not_before(Timestamp::from_millis(due))
    };
    let far = now()? + 3_600_000;
    for first in (0..count).step_by(BATCH) {
        // The messages fall due in an order of their own.
        let due = |i: usize| far + (i as u64).wrapping_mul(2_654_435_761) % 3_600_000;
        let batch = (first..count.min(first + BATCH)).map(|i| message(format!("far-{i}"), due(i))).collect();
        confirmed(&*producer, batch).await?;
    }
    println!("published {count} of {size} bytes in {:.1?}", began.elapsed());
    for take in ["first", "second"] {
        let overdue =
            (0..64).map(|i| message(format!("overdue-{take}-{i}"), now().unwrap_or_default() + 500)).collect();
        confirmed(&*producer, overdue).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let fresh = Kafka::connect(url, Options::default()).await?;
        let (before, began) = (resident()?, Instant::now());
        let mut consumer = fresh.consumer(ConsumerOptions::new(name.clone(), [topic.clone()])).await?;
        take_all(&mut *consumer, 64).await?;
        println!("{take} takeover: {:.1?}; memory {} MiB, {} before", began.elapsed(), resident()?, before);
        let start = now()? + 1_000;
        let probe = |i: usize| message(format!("probe-{take}-{i}"), start + i as u64 * WITHIN / PROBES as u64);
        confirmed(&*producer, (0..PROBES).map(probe).collect()).await?;
        let mut late = take_all(&mut *consumer, PROBES).await?;
        late.sort_unstable();
        println!(
            "lateness: p50 {} ms, p99 {} ms, most {} ms",
            late[PROBES / 2],
            late[PROBES * 99 / 100],
            late[PROBES - 1]
        );
        consumer.close().await?;
        fresh.close().await?;
    }
    Ok(())
}

async fn confirmed(producer: &dyn Producer, batch: Vec<Message>) -> Done {
    for receipt in producer.publish(batch).await {
        receipt?;
    }
    Ok(())
}

/// The lateness of each of the next messages, in milliseconds.
async fn take_all(consumer: &mut dyn Consumer, count: usize) -> Done<Vec<u64>> {
    let mut late = Vec::new();
    while late.len() < count {
        if let Event::Deliveries(deliveries) = consumer.next().await? {
            let now = now()?;
            consumer.settle(&deliveries.iter().map(|delivery| delivery.token).collect::<Vec<_>>());
            let due = deliveries.iter().filter_map(|delivery| delivery.message.not_before);
            late.extend(due.map(|due| now.saturating_sub(due.as_millis())));
        }
    }
    Ok(late)
}

fn now() -> Done<u64> {
    Ok(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis() as u64)
}

/// The memory of this process, in MiB.
fn resident() -> Done<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<u64>()? / 1024)
}

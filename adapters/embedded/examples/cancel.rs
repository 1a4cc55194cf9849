//! Measures the time to cancel one of many delayed messages: `cargo run --release --example cancel`.

use std::time::{Duration, Instant};

use partitura_broker::{Broker, Clock, Message, Ordering, ProducerOptions, SystemClock, TopicName, Topology};
use partitura_embedded::{Embedded, Options};

const MANY: usize = 100_000;
const SOME: usize = 1_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    for (name, step) in [("each at its own moment", 1), ("all at one moment", 0)] {
        let directory = tempfile::tempdir()?;
        let topic: TopicName = "timers".parse()?;
        let topology = Topology::new().queue(topic.clone(), Ordering::ByKey { partitions: 8 });
        let topology = topology.subscription("worker".parse()?, [topic.clone()]);
        let first = SystemClock.now() + Duration::from_secs(86_400);
        let message = |i: usize| {
            let due = first + Duration::from_millis(i as u64 * step);
            Message::new(topic.clone(), format!("run-{i}.t"), vec![0; 100]).key(format!("key-{i}")).not_before(due)
        };
        let mut broker = Embedded::open(directory.path(), Options::default())?;
        broker.declare(&topology).await?;
        let producer = broker.producer(ProducerOptions::default()).await?;
        for chunk in 0..MANY / SOME {
            for result in producer.publish((0..SOME).map(|i| message(chunk * SOME + i)).collect()).await {
                result?;
            }
        }
        // Messages whose number has this remainder, spread over all.
        let chosen = |rest: usize| (0..SOME).filter_map(move |i| message(i * (MANY / SOME) + rest).delayed());
        println!("{MANY} delayed, {name}:");
        measure("one call", &broker, chosen(1).collect(), SOME).await?;
        measure("calls of one, one after another", &broker, chosen(2).take(200).collect(), 1).await?;
        drop(producer);
        broker.close().await?;
        broker = Embedded::open(directory.path(), Options::default())?;
        measure("opened again, one call of one", &broker, chosen(3).take(1).collect(), 1).await?;
        measure("opened again, one call", &broker, chosen(4).collect(), SOME).await?;
        broker.close().await?;
    }
    Ok(())
}

async fn measure(
    what: &str,
    broker: &Embedded,
    delayed: Vec<partitura_broker::Delayed>,
    at_once: usize,
) -> Result<(), Box<dyn std::error::Error>> {
    let producer = broker.producer(ProducerOptions::default()).await?;
    let (began, count) = (Instant::now(), delayed.len());
    for some in delayed.chunks(at_once) {
        for cancelled in producer.cancel(some.to_vec()).await {
            assert!(cancelled?, "it was waiting");
        }
    }
    println!("  {what}: {:?} each, of {count}", began.elapsed() / u32::try_from(count)?);
    Ok(())
}

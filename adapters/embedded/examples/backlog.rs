//! Measures the cost of a million delayed messages: `cargo run --release -p partitura-embedded --example backlog`.

use std::error::Error;
use std::time::{Duration, Instant};

use partitura_broker::{
    Broker, Clock, ConsumerOptions, Event, Message, Ordering, ProducerOptions, SystemClock, TopicName, Topology,
};
use partitura_embedded::{Embedded, Options};

const MESSAGES: usize = 1_000_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let broker = Embedded::open(directory.path(), Options::default())?;
    let topic: TopicName = "timers".parse()?;
    let topology = Topology::new()
        .queue(topic.clone(), Ordering::ByKey { partitions: 16 })
        .subscription("timers".parse()?, [topic.clone()]);
    broker.declare(&topology).await?;
    let producer = broker.producer(ProducerOptions::default()).await?;
    let (began, before) = (Instant::now(), resident());
    for batch in 0..MESSAGES / 1_000 {
        let due = SystemClock.now() + Duration::from_secs(3_600);
        let message = |number: usize| {
            let id = format!("timer-{batch}-{number}");
            Message::new(topic.clone(), id.clone(), vec![7; 256]).key(id).not_before(due)
        };
        producer.publish((0..1_000).map(message).collect()).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    }
    println!("{MESSAGES} delayed in {:?}; memory {} MiB, before {before}", began.elapsed(), resident());
    broker.close().await?;
    drop(producer);

    let began = Instant::now();
    let broker = Embedded::open(directory.path(), Options::default().check_up_to(0))?;
    println!("reopened in {:?}; memory {} MiB", began.elapsed(), resident());
    let mut consumer = broker.consumer(ConsumerOptions::new("timers".parse()?, [topic.clone()])).await?;
    let producer = broker.producer(ProducerOptions::default()).await?;
    let mut late = Vec::new();
    for number in 0..2_000_u64 {
        let due = SystemClock.now() + Duration::from_millis(1 + number % 20);
        let message = Message::new(topic.clone(), format!("soon-{number}"), "").key("k").not_before(due);
        producer.publish(vec![message]).await.remove(0)?;
        while let Ok(event) = tokio::time::timeout(Duration::from_millis(40), consumer.next()).await {
            if let Event::Deliveries(deliveries) = event? {
                let tokens: Vec<_> = deliveries.iter().map(|delivery| delivery.token).collect();
                late.push(SystemClock.now().since(due));
                consumer.settle(&tokens);
                break;
            }
        }
    }
    late.sort_unstable();
    println!(
        "late among them: p50 {:?}, p99 {:?}, max {:?}",
        late[late.len() / 2],
        late[late.len() * 99 / 100],
        late[late.len() - 1]
    );
    broker.close().await?;
    Ok(())
}

/// MiB of this process that are in memory; 0 if the system does not tell.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    pages.and_then(|text| text.split(' ').nth(1)?.parse::<usize>().ok()).map_or(0, |pages| pages * 4 / 1_024)
}

//! Large messages that wait behind a slow handler.

use std::collections::VecDeque;
use std::process::Stdio;
use std::time::{Duration, Instant};

use partitura::contract::{
    ConsumerOptions, Event, Message, Ordering, ProducerOptions, SubscriptionName, TopicName, Topology,
};
use partitura_bench_kit::{Failure, Process};
use tokio::process::Command;

use crate::figures::Figures;

/// The number of messages that are published by one call.
const BATCH: usize = 64;
/// The time that the handler takes for a message.
const HANDLER: Duration = Duration::from_millis(20);
/// The interval at which the memory is read.
const LOOK: Duration = Duration::from_millis(250);
const SUBSCRIPTION: &str = "slow";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The running broker: nats://…, kafka://…, amqp://…, pulsar://…. A topic with the messages is left on it.
    #[arg(long, value_name = "URL")]
    broker: String,
    /// The MiB of payloads that wait.
    #[arg(long, default_value_t = 375)]
    waiting: usize,
    /// The KiB of each payload.
    #[arg(long, default_value_t = 256)]
    payload: usize,
    /// The number of partitions.
    #[arg(long, default_value_t = 8)]
    partitions: u32,
    /// The seconds for which the consumer is watched.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Prints each figure as a line of JSON on standard output.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub(crate) struct ReaderOptions {
    /// The broker.
    #[arg(long)]
    broker: String,
    #[arg(long)]
    topic: String,
    #[arg(long)]
    seconds: u64,
}

pub(crate) async fn run(options: Options) -> Result<(), Failure> {
    let topic = format!("memory{}", std::process::id());
    publish(&options, &TopicName::new(&topic)?).await?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(["reader", "--broker", &options.broker, "--topic", &topic])
        .args(["--seconds", &options.seconds.to_string()])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let process = Process::new(child.id().ok_or("the consumer ended")?);
    let (mut most, mut at_end) = (None, None);
    while child.try_wait()?.is_none() {
        most = process.most_resident_mib().filter(|mib| *mib > 0.0).or(most);
        at_end = process.resident_mib().filter(|mib| *mib > 0.0).or(at_end);
        tokio::time::sleep(LOOK).await;
    }
    let output = child.wait_with_output().await?;
    let handled: f64 = String::from_utf8_lossy(&output.stdout).trim().parse().map_err(|_| "the consumer failed")?;
    let mut figures = Figures::new(&options.broker, "memory", options.json);
    figures.add("consumer", "most MiB", most);
    figures.add("consumer", "at the end MiB", at_end);
    figures.add("consumer", "handled", Some(handled));
    let Options { waiting, payload, partitions, .. } = options;
    eprintln!("\n{waiting} MiB in payloads of {payload} KiB, {partitions} partitions\n{}", figures.table());
    Ok(())
}

async fn publish(options: &Options, topic: &TopicName) -> Result<(), Failure> {
    let broker = partitura::broker(&options.broker).await?;
    let ordering = Ordering::ByKey { partitions: options.partitions };
    let topology = Topology::new().queue(topic.clone(), ordering);
    let topology = topology.subscription(SubscriptionName::new(SUBSCRIPTION)?, [topic.clone()]);
    broker.declare(&topology).await?;
    let producer = broker.producer(ProducerOptions::default()).await?;
    let payload = bytes::Bytes::from(vec![7_u8; options.payload << 10]);
    let count = (options.waiting << 10) / options.payload.max(1);
    let numbers: Vec<usize> = (0..count).collect();
    for batch in numbers.chunks(BATCH) {
        let message = |number: &usize| {
            let key = format!("key{}", number % 997);
            Message::new(topic.clone(), format!("m{number}"), payload.clone()).key(key)
        };
        for result in producer.publish(batch.iter().map(message).collect()).await {
            result?;
        }
    }
    broker.close().await?;
    Ok(())
}

/// Takes what it is given, and settles one message after the other, slowly. Prints the number of them.
pub(crate) async fn read(options: ReaderOptions) -> Result<(), Failure> {
    let broker = partitura::broker(&options.broker).await?;
    let topic = TopicName::new(&options.topic)?;
    let mut consumer = broker.consumer(ConsumerOptions::new(SubscriptionName::new(SUBSCRIPTION)?, [topic])).await?;
    let until = Instant::now() + Duration::from_secs(options.seconds);
    let (mut held, mut handled) = (VecDeque::new(), 0_u64);
    let mut handler = tokio::time::interval(HANDLER);
    while Instant::now() < until {
        tokio::select! {
            event = consumer.next() => if let Event::Deliveries(deliveries) = event? {
                held.extend(deliveries);
            },
            _ = handler.tick() => if let Some(delivery) = held.pop_front() {
                consumer.settle(&[delivery.token]);
                handled += 1;
            },
        }
    }
    println!("{handled}");
    // Not closed: it ends as it is, and what it holds stays with the broker.
    Ok(())
}

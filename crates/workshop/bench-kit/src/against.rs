//! Compares an adapter with the raw client below it: the same work, the same broker, in turns.
//!
//! Both sides do the same work. Each message has its own payload, key and id, and its consumer gets all three to keep.
//! The key decides the partition. Both have the same window of unconfirmed messages, the same bound of unsettled ones,
//! and the durability that the adapter asks for.

use std::error::Error;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use partitura_broker::{
    Broker, Clock, Consumer, ConsumerOptions, Event, Message, Ordering, Producer, ProducerOptions, SubscriptionName,
    SystemClock, TopicName, Topology,
};
use serde::Serialize;

use crate::usage::own_seconds;
use crate::{Latencies, Usage};

/// The result of one measurement.
pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The work of both sides, with its settings.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    /// Messages published, and then consumed, in each round.
    pub messages: usize,
    /// Bytes of a payload.
    pub payload: usize,
    /// The largest number of unconfirmed messages.
    pub window: usize,
    /// Partitions of the topic.
    pub partitions: u32,
    /// The number of single messages in each round, to measure the time of one.
    pub pings: usize,
    /// The pause between two of them.
    pub pause: Duration,
    /// Rounds; both sides take their turn in each.
    pub rounds: usize,
}

impl Default for Work {
    /// 50,000 messages of 256 bytes, 1,000 unconfirmed, 8 partitions; 200 pings, one each 10 ms; 5 rounds.
    fn default() -> Self {
        Self {
            messages: 50_000,
            payload: 256,
            window: 1_000,
            partitions: 8,
            pings: 200,
            pause: Duration::from_millis(10),
            rounds: 5,
        }
    }
}

/// The messages that a side publishes. They are the same for both, and built one by one.
#[derive(Debug, Clone, Copy)]
pub struct Letters {
    payload: usize,
    written: u64,
}

impl Letters {
    /// Makes letters of `payload` bytes.
    pub fn new(payload: usize) -> Self {
        Self { payload, written: 0 }
    }
}

impl Iterator for Letters {
    type Item = Letter;

    fn next(&mut self) -> Option<Letter> {
        self.written += 1;
        let (id, key) = (self.written.to_string(), (self.written % KEYS).to_string());
        Some(Letter { id, key, payload: vec![7; self.payload] })
    }
}

/// The number of keys.
const KEYS: u64 = 1_000;

/// A message, for both sides.
#[derive(Debug, Clone)]
pub struct Letter {
    /// The id by which a duplicate is recognised.
    pub id: String,
    /// Letters of one key are in one partition.
    pub key: String,
    /// The content.
    pub payload: Vec<u8>,
}

/// One of the two sides. It has its own topic, whose messages are durable and confirmed, and settles every message that
/// it consumes.
#[async_trait]
pub trait Side: Send {
    /// Publishes this many messages with keys, and returns when each is confirmed.
    async fn publish(&mut self, messages: usize) -> Result<()>;

    /// Consumes this many messages and settles each; returns when the broker has taken the settlements.
    async fn consume(&mut self, messages: usize) -> Result<()>;

    /// Publishes one message, consumes and settles it.
    async fn ping(&mut self) -> Result<()>;
}

/// The adapter's side: any broker.
#[derive(Debug)]
pub struct Adapter {
    topic: TopicName,
    work: Work,
    producer: Box<dyn Producer>,
    consumer: Box<dyn Consumer>,
    letters: Letters,
}

/// The number of messages in one call of `publish`.
const BATCH: usize = 100;

impl Adapter {
    /// Declares a topic of its own, and joins it. Waits until all partitions are assigned.
    ///
    /// # Errors
    /// Those of the broker.
    pub async fn new(broker: Arc<dyn Broker>, work: Work) -> Result<Self> {
        let topic = TopicName::new(format!("against-raw-{}", SystemClock.now().as_millis()))?;
        let subscription = SubscriptionName::new("scales")?;
        let topology = Topology::new()
            .queue(topic.clone(), Ordering::ByKey { partitions: work.partitions })
            .subscription(subscription.clone(), [topic.clone()]);
        broker.declare(&topology).await?;
        let mut options = ProducerOptions::default();
        options.window = NonZeroUsize::new(work.window).ok_or("a window of nothing")?;
        let producer = broker.producer(options).await?;
        let mut consumer = broker.consumer(ConsumerOptions::new(subscription, [topic.clone()])).await?;
        let mut assigned = 0;
        while assigned < work.partitions as usize {
            if let Event::Assigned(assignments) = consumer.next().await? {
                assigned += assignments.len();
            }
        }
        Ok(Self { topic, work, producer, consumer, letters: Letters::new(work.payload) })
    }

    /// The topic to which it publishes.
    pub fn topic(&self) -> &TopicName {
        &self.topic
    }
}

fn message(topic: &TopicName, Letter { id, key, payload }: Letter) -> Message {
    Message::new(topic.clone(), id, payload).key(key)
}

#[async_trait]
impl Side for Adapter {
    async fn publish(&mut self, messages: usize) -> Result<()> {
        let Self { topic, work, producer, letters, .. } = self;
        let mut flying = FuturesUnordered::new();
        for _ in 0..messages.div_ceil(BATCH) {
            // The producer limits its window itself. This number of calls always keeps it full.
            if flying.len() * BATCH >= 2 * work.window {
                confirmed(flying.next().await)?;
            }
            let batch = letters.by_ref().take(BATCH).map(|letter| message(topic, letter)).collect();
            flying.push(producer.publish(batch));
        }
        while !flying.is_empty() {
            confirmed(flying.next().await)?;
        }
        Ok(())
    }

    async fn consume(&mut self, messages: usize) -> Result<()> {
        let (mut consumed, mut tokens) = (0, Vec::new());
        while consumed < messages {
            if let Event::Deliveries(deliveries) = self.consumer.next().await? {
                tokens.clear();
                tokens.extend(deliveries.iter().map(|delivery| delivery.token));
                consumed += tokens.len();
                self.consumer.settle(&tokens);
            }
        }
        Ok(self.consumer.flush().await?)
    }

    async fn ping(&mut self) -> Result<()> {
        let letter = self.letters.next().ok_or("letters do not end")?;
        let (sent, got) = futures::join!(self.producer.publish(vec![message(&self.topic, letter)]), async {
            loop {
                if let Event::Deliveries(deliveries) = self.consumer.next().await? {
                    self.consumer.settle(&[deliveries[0].token]);
                    return Ok::<_, partitura_broker::Error>(());
                }
            }
        });
        confirmed(Some(sent))?;
        Ok(got?)
    }
}

fn confirmed<R, E: Error + Send + Sync + 'static>(results: Option<Vec<std::result::Result<R, E>>>) -> Result<()> {
    for result in results.into_iter().flatten() {
        result?;
    }
    Ok(())
}

/// One line of JSON: both sides of one measurement, and their ratio.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// The broker with its version.
    pub broker: String,
    /// `publish`, `consume` (messages per second; a ratio above 1 is better) or `p50_ms`, `p99_ms` of a ping (below 1);
    /// `publish_cpu_us`, `consume_cpu_us`: processor time of this process for each message. It varies less than the
    /// clock if others use the machine, and does not include the broker's own work.
    pub measure: &'static str,
    /// The raw client's median over the rounds; for a ping, the median over all rounds together.
    pub raw: f64,
    /// The adapter's.
    pub adapter: f64,
    /// The adapter's value divided by the raw client's: the median of the rounds' ratios, or the ratio over all pings.
    pub ratio: f64,
    /// The settings.
    pub notes: String,
}

/// Lets both sides do the work, in turns, and compares them. The side that begins changes with each round.
///
/// # Errors
/// Those of either side.
pub async fn compare(broker: &str, work: Work, raw: &mut dyn Side, adapter: &mut dyn Side) -> Result<Vec<Comparison>> {
    let mut sides: [&mut dyn Side; 2] = [raw, adapter];
    for side in &mut sides {
        // Connections, producers' ids and caches are built at the first use.
        side.publish(BATCH).await?;
        side.consume(BATCH).await?;
    }
    // For both sides: publish, consume, and the processor time of each; then pings.
    let mut scores: [[Vec<f64>; 4]; 2] = Default::default();
    let mut pings = [Vec::new(), Vec::new()];
    let watch = Usage::watch();
    for round in 0..work.rounds {
        eprintln!("{broker}: round {} of {}", round + 1, work.rounds);
        let turns = if round % 2 == 0 { [0, 1] } else { [1, 0] };
        for (exercise, at) in [(0, turns[0]), (0, turns[1]), (1, turns[0]), (1, turns[1])] {
            let (began, used) = (Instant::now(), own_seconds());
            match exercise {
                0 => sides[at].publish(work.messages).await?,
                _ => sides[at].consume(work.messages).await?,
            }
            let messages = work.messages as f64;
            scores[at][exercise].push(messages / began.elapsed().as_secs_f64());
            scores[at][exercise + 2].push((own_seconds() - used) * 1e6 / messages);
        }
        for _ in 0..work.pings {
            for at in turns {
                tokio::time::sleep(work.pause).await;
                let began = Instant::now();
                sides[at].ping().await?;
                pings[at].push(began.elapsed());
            }
        }
    }
    let notes = format!("{work:?}; {}", watch());
    let line = |measure, [raw, adapter]: [f64; 2], ratio: f64| {
        let round = |value: f64| (value * 1_000.0).round() / 1_000.0;
        let (raw, adapter, ratio) = (round(raw), round(adapter), round(ratio));
        Comparison { broker: broker.to_owned(), measure, raw, adapter, ratio, notes: notes.clone() }
    };
    let mut lines = Vec::new();
    for (at, measure) in ["publish", "consume", "publish_cpu_us", "consume_cpu_us"].into_iter().enumerate() {
        let [raw, adapter] = [0, 1].map(|side| &scores[side][at]);
        let ratios = raw.iter().zip(adapter).map(|(raw, adapter)| adapter / raw).collect();
        lines.push(line(measure, [raw, adapter].map(|scores| median(scores.clone())), median(ratios)));
    }
    let pings = pings.map(Latencies::new);
    for (measure, share) in [("p50_ms", 0.5), ("p99_ms", 0.99)] {
        let [raw, adapter] = [0, 1].map(|side| pings[side].percentile_ms(share));
        lines.push(line(measure, [raw, adapter], adapter / raw));
    }
    Ok(lines)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Prints the comparisons: a table for people on standard error, a line of JSON each on standard output.
pub fn report(comparisons: &[Comparison]) {
    eprintln!("{:<28} {:<14} {:>12} {:>12} {:>7}", "broker", "measure", "raw", "adapter", "ratio");
    for Comparison { broker, measure, raw, adapter, ratio, .. } in comparisons {
        eprintln!("{broker:<28} {measure:<14} {raw:>12.2} {adapter:>12.2} {ratio:>7.2}");
    }
    for comparison in comparisons {
        // Plain data.
        println!("{}", serde_json::to_string(comparison).unwrap_or_default());
    }
}

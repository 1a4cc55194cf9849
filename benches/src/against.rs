//! An adapter against the raw client below it: the same work, the same broker, in turns.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use partitura::contract::{
    Broker, Clock, Consumer, ConsumerOptions, Event, Message, Ordering, Producer, ProducerOptions, SubscriptionName,
    SystemClock, TopicName, Topology,
};
use serde::Serialize;

use crate::Latencies;

/// The result of an exercise.
pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The work: what both sides do, and with which settings.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    /// Messages published, and then consumed, in each round.
    pub messages: usize,
    /// Bytes of a payload.
    pub payload: usize,
    /// Messages without a confirm at any time.
    pub window: usize,
    /// Partitions of the topic.
    pub partitions: u32,
    /// Messages sent one by one to see how long one takes, in each round.
    pub pings: usize,
    /// The pause between two of them.
    pub pause: Duration,
    /// Rounds; both sides take their turn in each.
    pub rounds: usize,
}

impl Default for Work {
    /// 50,000 messages of 256 bytes, 1,000 unconfirmed, 8 partitions; 200 pings, one each 10 ms; 3 rounds.
    fn default() -> Self {
        Self {
            messages: 50_000,
            payload: 256,
            window: 1_000,
            partitions: 8,
            pings: 200,
            pause: Duration::from_millis(10),
            rounds: 3,
        }
    }
}

/// One of the two sides. It keeps its own topic, whose messages are durable and confirmed, and settles what it consumes.
#[async_trait]
pub trait Side: Send {
    /// Publishes so many messages with keys, and returns when each is confirmed.
    async fn publish(&mut self, messages: usize) -> Result<()>;

    /// Consumes so many messages and settles each; returns when the broker knows.
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
    published: u64,
}

/// How many messages one call of `publish` takes.
const BATCH: usize = 100;

impl Adapter {
    /// Declares a topic of its own, and joins it. Waits until all partitions are there.
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
        let producer = broker.producer(ProducerOptions::default()).await?;
        let mut consumer = broker.consumer(ConsumerOptions::new(subscription, [topic.clone()])).await?;
        let mut assigned = 0;
        while assigned < work.partitions as usize {
            if let Event::Assigned(assignments) = consumer.next().await? {
                assigned += assignments.len();
            }
        }
        Ok(Self { topic, work, producer, consumer, published: 0 })
    }

    fn message(&mut self) -> Message {
        self.published += 1;
        let payload = Bytes::from(vec![7; self.work.payload]);
        Message::new(self.topic.clone(), self.published.to_string(), payload).key((self.published % 1_000).to_string())
    }
}

#[async_trait]
impl Side for Adapter {
    async fn publish(&mut self, messages: usize) -> Result<()> {
        let batches: Vec<Vec<Message>> =
            (0..messages.div_ceil(BATCH)).map(|_| (0..BATCH).map(|_| self.message()).collect()).collect();
        let mut flying = FuturesUnordered::new();
        for batch in batches {
            if flying.len() * BATCH >= self.work.window {
                confirmed(flying.next().await)?;
            }
            flying.push(self.producer.publish(batch));
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
        let message = self.message();
        let (sent, got) = futures::join!(self.producer.publish(vec![message]), async {
            loop {
                if let Event::Deliveries(deliveries) = self.consumer.next().await? {
                    self.consumer.settle(&[deliveries[0].token]);
                    return Ok::<_, partitura::Error>(());
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

/// One line of JSON: both sides of one exercise, and their ratio.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// The broker with its version.
    pub broker: String,
    /// `publish`, `consume` (messages per second; a ratio above 1 is better) or `p50_ms`, `p99_ms` of a ping (below 1).
    pub measure: &'static str,
    /// The raw client's median over the rounds.
    pub raw: f64,
    /// The adapter's.
    pub adapter: f64,
    /// The adapter's by the raw client's.
    pub ratio: f64,
    /// The settings.
    pub notes: String,
}

/// Lets both sides do the work, in turns, and compares the medians.
///
/// # Errors
/// Those of either side.
pub async fn compare(broker: &str, work: Work, raw: &mut dyn Side, adapter: &mut dyn Side) -> Result<Vec<Comparison>> {
    let mut rounds = [Vec::new(), Vec::new()];
    warm_up(raw).await?;
    warm_up(adapter).await?;
    for round in 0..work.rounds {
        eprintln!("{broker}: round {} of {}", round + 1, work.rounds);
        rounds[0].push(exercise(work, raw).await?);
        rounds[1].push(exercise(work, adapter).await?);
    }
    let notes = format!("{work:?}");
    let compare = |measure, of: fn(&Figures) -> f64| {
        let [raw, adapter] = [0, 1].map(|side| median(rounds[side].iter().map(of).collect()));
        let round = |value: f64| (value * 1_000.0).round() / 1_000.0;
        let ratio = round(adapter / raw);
        Comparison {
            broker: broker.to_owned(),
            measure,
            raw: round(raw),
            adapter: round(adapter),
            ratio,
            notes: notes.clone(),
        }
    };
    Ok(vec![
        compare("publish", |figures| figures.published),
        compare("consume", |figures| figures.consumed),
        compare("p50_ms", |figures| figures.pings.percentile_ms(0.5)),
        compare("p99_ms", |figures| figures.pings.percentile_ms(0.99)),
    ])
}

/// Connections, producers' ids and caches are built at the first use.
async fn warm_up(side: &mut dyn Side) -> Result<()> {
    side.publish(BATCH).await?;
    side.consume(BATCH).await
}

struct Figures {
    published: f64,
    consumed: f64,
    pings: Latencies,
}

async fn exercise(work: Work, side: &mut dyn Side) -> Result<Figures> {
    let rate = |began: Instant| work.messages as f64 / began.elapsed().as_secs_f64();
    let began = Instant::now();
    side.publish(work.messages).await?;
    let published = rate(began);
    let began = Instant::now();
    side.consume(work.messages).await?;
    let consumed = rate(began);
    let mut pings = Vec::with_capacity(work.pings);
    for _ in 0..work.pings {
        tokio::time::sleep(work.pause).await;
        let began = Instant::now();
        side.ping().await?;
        pings.push(began.elapsed());
    }
    Ok(Figures { published, consumed, pings: Latencies::new(pings) })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Prints the comparisons: a table for people on standard error, a line of JSON each on standard output.
pub fn report(comparisons: &[Comparison]) {
    eprintln!("{:<28} {:<10} {:>12} {:>12} {:>7}", "broker", "measure", "raw", "adapter", "ratio");
    for Comparison { broker, measure, raw, adapter, ratio, .. } in comparisons {
        eprintln!("{broker:<28} {measure:<10} {raw:>12.1} {adapter:>12.1} {ratio:>7.2}");
    }
    for comparison in comparisons {
        // Plain data.
        println!("{}", serde_json::to_string(comparison).unwrap_or_default());
    }
}

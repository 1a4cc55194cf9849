//! The cost of the lanes themselves: microseconds per message, over a consumer and a handler that do nothing.
//!
//! `cargo run --release -p partitura-lanes --example overhead`

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use partitura_broker::{
    AckToken, Assignment, Capabilities, Consumer, Delay, Delivery, Durability, Event, InboxAddress, Message, Ordering,
    Partition, Producer, Receipt, Result, partition_of,
};
use partitura_lanes::{Batch, Handler, LaneOptions, Lanes, Outcome, SubscriptionTopics};
use tokio::sync::Notify;

const MESSAGES: usize = 1_000_000;
const CREDIT: usize = 1_000;
const PARTITIONS: u32 = 16;

/// Delivers the same few messages over and over, as fast as they are settled.
#[derive(Debug)]
struct Endless {
    messages: Vec<Message>,
    sent: usize,
    outstanding: usize,
    assigned: bool,
}

#[async_trait]
impl Consumer for Endless {
    async fn next(&mut self) -> Result<Event> {
        if !self.assigned {
            self.assigned = true;
            let assignment = |partition| Assignment { partition: Partition(partition), epoch: 1 };
            return Ok(Event::Assigned((0..PARTITIONS).map(assignment).collect()));
        }
        let room = (CREDIT - self.outstanding).min(256).min(MESSAGES - self.sent);
        if room == 0 {
            return std::future::pending().await;
        }
        let deliver = |n: usize| {
            let message = self.messages[n % self.messages.len()].clone();
            let partition = partition_of(message.key.as_deref().unwrap_or_default(), PARTITIONS);
            let token = AckToken { consumer: 1, partition, epoch: 1, slot: n as u32 };
            Delivery { message, partition, redelivered: false, token }
        };
        let deliveries = (self.sent..self.sent + room).map(deliver).collect();
        self.sent += room;
        self.outstanding += room;
        Ok(Event::Deliveries(deliveries))
    }

    fn settle(&mut self, tokens: &[AckToken]) {
        self.outstanding -= tokens.len();
    }

    async fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    async fn release(&mut self, _: &[Partition]) -> Result<()> {
        Ok(())
    }

    async fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct Nowhere;

#[async_trait]
impl Producer for Nowhere {
    async fn publish(&self, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        batch.iter().map(|_| Ok(Receipt { partition: Partition(0) })).collect()
    }

    async fn reply(&self, _: Vec<(InboxAddress, Message)>) -> Result<()> {
        Ok(())
    }
}

struct Count(AtomicUsize, Notify);

impl Handler for Count {
    async fn handle(&self, batch: Batch) -> Outcome {
        if self.0.fetch_add(batch.len(), Relaxed) + batch.len() >= MESSAGES {
            self.1.notify_one();
        }
        Outcome::Done
    }
}

async fn measure(keys: usize, batch: usize) -> f64 {
    let topic = "orders".parse().unwrap_or_else(|_| unreachable!("a good name"));
    let messages = (0..keys).map(|n| {
        let payload = Bytes::from(vec![b'x'; 256]);
        Message::new(Clone::clone(&topic), format!("m{n}"), payload).key(format!("key-{n}"))
    });
    let consumer = Endless { messages: messages.collect(), sent: 0, outstanding: 0, assigned: false };
    let capabilities = Capabilities {
        broker: "nothing".into(),
        durability: Durability::Memory,
        delay: Delay { native: true, max: Default::default(), lateness: Default::default() },
        hold: None,
        limits: Default::default(),
        supports: Default::default(),
    };
    let billing = "billing".parse().unwrap_or_else(|_| unreachable!("a good name"));
    let source = SubscriptionTopics::new(topic.clone(), billing, Ordering::ByKey { partitions: PARTITIONS });
    let count = Arc::new(Count(AtomicUsize::new(0), Notify::new()));
    let options = LaneOptions::default().batch(batch).concurrency(256);
    let lanes = Lanes::new(Box::new(consumer), Arc::new(Nowhere), &capabilities, source, options, Arc::clone(&count));
    let start = Instant::now();
    if let Err(error) = lanes.run_until(count.1.notified()).await {
        eprintln!("{error}");
    }
    start.elapsed().as_secs_f64() * 1e6 / MESSAGES as f64
}

#[tokio::main]
async fn main() {
    for (keys, batch) in [(100_000, 1), (1_000, 1), (10, 1), (10, 100)] {
        let micros = measure(keys, batch).await;
        println!("{keys:>7} keys, batches of {batch:>3}: {micros:.2} µs per message, {:.0} messages/s", 1e6 / micros);
    }
}

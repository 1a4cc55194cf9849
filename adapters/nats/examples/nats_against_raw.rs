//! The adapter against async-nats: `cargo xtask bench nats`, or with the server's URL as the argument.
//!
//! The raw side is the client as its documentation uses it, with the adapter's settings. As on all brokers, its
//! messages have an id and a key, here as headers.

use std::sync::Arc;

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::consumer::pull::{Config as ConsumerConfig, Stream};
use async_nats::jetstream::context::PublishAckFuture;
use async_nats::jetstream::stream::{Config, RetentionPolicy};
use async_nats::jetstream::{self, Context, ContextBuilder, Message};
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt};
use partitura_bench_kit::against::{Adapter, Letter, Letters, Result, Side, Work, compare, report};
use partitura_broker::{Broker, partition_of};
use partitura_nats::{Nats, Options};
use partitura_servers::{Kind, Server};
use std::future::IntoFuture;

/// The client as its documentation uses it: one stream, one durable pull consumer for each subject, every message
/// confirmed and acknowledged.
struct Raw {
    jetstream: Context,
    consuming: Context,
    stream: String,
    arriving: futures::stream::SelectAll<Stream>,
    work: Work,
    letters: Letters,
}

impl Raw {
    async fn new(url: &str, work: Work) -> Result<Self> {
        let builder = ContextBuilder::new().max_ack_inflight(work.window).backpressure_on_inflight(false);
        let jetstream = builder.build(async_nats::connect(url).await?);
        let consuming = jetstream::new(async_nats::connect(url).await?);
        let stream = format!("against-raw-{}", uuid::Uuid::now_v7().simple());
        let config = Config {
            name: stream.clone(),
            subjects: vec![format!("{stream}.*")],
            retention: RetentionPolicy::WorkQueue,
            ..Config::default()
        };
        let created = consuming.create_stream(config).await?;
        let mut arriving = futures::stream::SelectAll::new();
        for partition in 0..work.partitions {
            let config = ConsumerConfig {
                durable_name: Some(format!("p{partition}")),
                filter_subject: format!("{stream}.{partition}"),
                max_ack_pending: 1_000,
                ..ConsumerConfig::default()
            };
            let consumer: PullConsumer = created.create_consumer(config).await?;
            arriving.push(consumer.stream().max_messages_per_batch(1_000).messages().await?);
        }
        Ok(Self { jetstream, consuming, stream, arriving, work, letters: Letters::new(work.payload) })
    }

    /// Sends the next message, and returns its confirm.
    async fn send(&mut self) -> Result<PublishAckFuture> {
        let Letter { id, key, payload } = self.letters.next().ok_or("letters do not end")?;
        let subject = format!("{}.{}", self.stream, partition_of(key.as_bytes(), self.work.partitions));
        let mut headers = HeaderMap::new();
        headers.insert("Id", id);
        headers.insert("Key", key);
        Ok(self.jetstream.publish_with_headers(subject, headers, payload.into()).await?)
    }
}

/// The values that a handler needs beside the payload.
fn letter(message: &Message) -> Option<(String, String)> {
    let headers = message.headers.as_ref()?;
    Some((headers.get("Id")?.to_string(), headers.get("Key")?.to_string()))
}

#[async_trait]
impl Side for Raw {
    async fn publish(&mut self, messages: usize) -> Result<()> {
        let mut flying = futures::stream::FuturesUnordered::new();
        for _ in 0..messages {
            if flying.len() >= self.work.window {
                flying.try_next().await?;
            }
            let confirm = self.send().await?;
            flying.push(confirm.into_future());
        }
        while flying.try_next().await?.is_some() {}
        Ok(())
    }

    async fn consume(&mut self, messages: usize) -> Result<()> {
        for consumed in 1..=messages {
            let message = self.arriving.next().await.ok_or("the consumer ended")??;
            std::hint::black_box(letter(&message));
            if consumed == messages {
                message.double_ack().await?;
            } else {
                message.ack().await?;
            }
        }
        Ok(())
    }

    async fn ping(&mut self) -> Result<()> {
        let confirm = self.send().await?;
        let (confirmed, message) = futures::join!(confirm.into_future(), self.arriving.next());
        confirmed?;
        Ok(message.ok_or("the consumer ended")??.ack().await?)
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let url = std::env::args().nth(1).unwrap_or_else(|| Server::new(Kind::Nats).url());
    let work = Work::default();
    let broker: Arc<dyn Broker> = Arc::new(Nats::connect(&url, Options::default()).await?);
    let name = broker.capabilities().broker.clone();
    let mut raw = Raw::new(&url, work).await?;
    let mut adapter = Adapter::new(broker.clone(), work).await?;
    report(&compare(&name, work, &mut raw, &mut adapter).await?);
    raw.consuming.delete_stream(&raw.stream).await?;
    broker.close().await?;
    Ok(())
}

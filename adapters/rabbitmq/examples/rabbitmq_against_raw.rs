//! The adapter against lapin: `cargo xtask bench rabbitmq`, or with the server's URL as the argument.
//!
//! The raw side has the settings that make the client fast, and the adapter's queues: quorum queues with a single
//! active consumer, persistent and mandatory messages whose confirms are awaited behind a window, connections of
//! their own for publishing and consuming, a channel for each queue, and one acknowledgement for all messages that
//! have come from a queue. As on all brokers, its messages have an id and a key.

use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::{FuturesUnordered, SelectAll, StreamExt};
use futures::{FutureExt, TryStreamExt};
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer, ExchangeKind};
use partitura_bench_kit::against::{Adapter, Letter, Letters, Result, Side, Work, compare, report};
use partitura_broker::{Broker, partition_of};
use partitura_rabbitmq::{Options, Rabbitmq};
use partitura_servers::{Kind, Server};

/// The number of messages that may be unsettled in each queue: that of the adapter's default credit.
const PREFETCH: u16 = 1_000;
/// The largest number of messages of a queue that are acknowledged at once.
const AT_ONCE: usize = 256;

struct Raw {
    work: Work,
    name: String,
    publishing: Channel,
    /// Of each queue.
    channels: Vec<Channel>,
    arriving: SelectAll<futures::stream::BoxStream<'static, (usize, lapin::Result<Delivery>)>>,
    letters: Letters,
    connections: [Connection; 2],
}

impl Raw {
    async fn new(url: &str, work: Work) -> Result<Self> {
        let connect = || Connection::connect(url, ConnectionProperties::default());
        let connections = [connect().await?, connect().await?];
        let name = format!("against-raw-{}", uuid::Uuid::now_v7().simple());
        let publishing = connections[0].create_channel().await?;
        publishing.confirm_select(ConfirmSelectOptions::default()).await?;
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let none = FieldTable::default;
        publishing.exchange_declare(name.as_str().into(), ExchangeKind::Direct, options, none()).await?;
        let (mut channels, mut arriving) = (Vec::new(), SelectAll::new());
        for partition in 0..work.partitions as usize {
            let channel = connections[1].create_channel().await?;
            let mut arguments = none();
            arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
            arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
            let (queue, key) = (queue(&name, partition), partition.to_string());
            let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
            channel.queue_declare(queue.as_str().into(), options, arguments).await?;
            let options = QueueBindOptions::default();
            channel.queue_bind(queue.as_str().into(), name.as_str().into(), key.into(), options, none()).await?;
            channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
            let options = BasicConsumeOptions::default();
            let consumer: Consumer = channel.basic_consume(queue.into(), "".into(), options, none()).await?;
            arriving.push(consumer.map(move |delivery| (partition, delivery)).boxed());
            channels.push(channel);
        }
        Ok(Self { work, name, publishing, channels, arriving, letters: Letters::new(work.payload), connections })
    }

    /// The next message, to be confirmed later.
    fn send(&mut self) -> impl Future<Output = Result<()>> + 'static {
        let Letter { id, key, payload } = self.letters.next().unwrap_or_else(|| unreachable!("letters do not end"));
        let (channel, exchange) = (self.publishing.clone(), self.name.clone());
        let partition = partition_of(key.as_bytes(), self.work.partitions);
        async move {
            let mut headers = FieldTable::default();
            headers.insert("key".into(), AMQPValue::LongString(key.into()));
            let properties =
                BasicProperties::default().with_message_id(id.into()).with_delivery_mode(2).with_headers(headers);
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let routing = partition.to_string();
            let sent = channel.basic_publish(exchange.into(), routing.into(), options, &payload, properties);
            match sent.await?.await? {
                Confirmation::Ack(None) => Ok(()),
                other => Err(format!("not stored: {other:?}").into()),
            }
        }
    }

    /// Waits for messages, at most this number, and settles them.
    async fn take(&mut self, most: usize) -> Result<usize> {
        let mut last = vec![None; self.channels.len()];
        let mut taken = 0;
        let mut next = Some(self.arriving.next().await.ok_or("the consumers ended")?);
        while let Some((partition, delivery)) = next {
            let delivery = delivery?;
            std::hint::black_box(letter(&delivery));
            last[partition] = Some(delivery.delivery_tag);
            taken += 1;
            next = if taken < most { self.arriving.next().now_or_never().flatten() } else { None };
        }
        for (channel, tag) in self.channels.iter().zip(last) {
            if let Some(tag) = tag {
                channel.basic_ack(tag, BasicAckOptions { multiple: true }).await?;
            }
        }
        Ok(taken)
    }
}

/// The values that a handler needs beside the payload, which is the client's own already.
fn letter(delivery: &Delivery) -> Option<(String, String)> {
    let id = delivery.properties.message_id().as_ref()?.to_string();
    match delivery.properties.headers().as_ref()?.inner().get("key")? {
        AMQPValue::LongString(key) => Some((id, key.to_string())),
        _ => None,
    }
}

fn queue(name: &str, partition: usize) -> String {
    format!("{name}.{partition}")
}

#[async_trait]
impl Side for Raw {
    async fn publish(&mut self, messages: usize) -> Result<()> {
        let mut flying = FuturesUnordered::new();
        for _ in 0..messages {
            if flying.len() >= self.work.window {
                flying.try_next().await?;
            }
            // The first poll queues the frames.
            let mut sent = Box::pin(self.send());
            match sent.as_mut().now_or_never() {
                Some(done) => done?,
                None => flying.push(sent),
            }
        }
        while flying.try_next().await?.is_some() {}
        Ok(())
    }

    async fn consume(&mut self, mut messages: usize) -> Result<()> {
        while messages > 0 {
            messages -= self.take(messages.min(AT_ONCE)).await?;
        }
        // The answer comes after the acknowledgements.
        for (partition, channel) in self.channels.iter().enumerate() {
            let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            channel.queue_declare(queue(&self.name, partition).into(), options, FieldTable::default()).await?;
        }
        Ok(())
    }

    async fn ping(&mut self) -> Result<()> {
        let sent = self.send();
        let (sent, taken) = futures::join!(sent, self.take(1));
        sent?;
        taken.map(drop)
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let url = std::env::args().nth(1).unwrap_or_else(|| Server::new(Kind::Rabbitmq).url());
    let work = Work::default();
    let broker: Arc<dyn Broker> = Arc::new(Rabbitmq::connect(&url, Options::default()).await?);
    let name = broker.capabilities().broker.clone();
    let mut raw = Raw::new(&url, work).await?;
    let mut adapter = Adapter::new(broker.clone(), work).await?;
    report(&compare(&name, work, &mut raw, &mut adapter).await?);
    let channel = raw.connections[0].create_channel().await?;
    let exchange = format!("partitura:{}", adapter.topic());
    drop(adapter);
    let queues = (0..raw.channels.len()).flat_map(|p| [queue(&raw.name, p), format!("{exchange}:scales:{p}")]);
    for queue in queues.chain([format!("{exchange}:due")]) {
        channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await?;
    }
    for exchange in [&raw.name, &exchange] {
        channel.exchange_delete(exchange.as_str().into(), ExchangeDeleteOptions::default()).await?;
    }
    for connection in &raw.connections {
        connection.close(200, "done".into()).await?;
    }
    broker.close().await?;
    Ok(())
}

use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer};
use partitura_adapter_kit::Backoff;
use partitura_broker::{Clock, CorrectedClock, Error, ErrorKind, ProducerOptions, Result, TopicName, telemetry};
use tokio::time::sleep;

use crate::SYSTEM;
use crate::core::Core;
use crate::delay::Wait;
use crate::link::Link;
use crate::publisher::{Outgoing, Publisher};
use crate::settled::{Settled, Tag};
use crate::{names, wire};

/// How many messages that are due within two seconds wait here.
const AHEAD: u16 = 8_192;
/// How soon is tried again what could not be published.
const AGAIN: Duration = Duration::from_millis(100);
/// How soon after a lost connection.
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(50), longest: Duration::from_secs(2) };

/// Takes what may be due of a topic and publishes it: what is due to the topic, the rest to its next room. Runs in whoever
/// consumes the topic, until it is aborted or the broker is closed; of all that run, the broker serves one.
pub(crate) async fn forward(core: Arc<Core>, link: Arc<Link>, topic: TopicName) {
    let clock = core.clock.clone();
    let publisher = Publisher::start(core, &ProducerOptions::default());
    let mut attempt = 0;
    loop {
        let error = match Desk::open(&link, &topic, clock.clone()).await {
            Ok(desk) => {
                attempt = 0;
                desk.serve(&publisher, &link).await
            }
            Err(error) => error,
        };
        if error.kind() == ErrorKind::Closed {
            return;
        }
        attempt += 1;
        telemetry::reconnecting(SYSTEM, &error, attempt);
        sleep(BACKOFF.delay(attempt, 0)).await;
    }
}

/// The messages at hand.
struct Desk {
    topic: TopicName,
    clock: CorrectedClock,
    channel: Channel,
    consumer: Consumer,
    settled: Settled,
    waiting: Vec<(Tag, Outgoing)>,
}

impl Desk {
    async fn open(link: &Link, topic: &TopicName, clock: CorrectedClock) -> Result<Self> {
        let explain = |error| link.explain(error, "forward").of(topic);
        let channel = link.channel().await?;
        channel.basic_qos(AHEAD, BasicQosOptions::default()).await.map_err(explain)?;
        let (queue, options) = (names::due(topic), BasicConsumeOptions::default());
        let consumer = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default());
        let consumer = consumer.await.map_err(explain)?;
        Ok(Self { topic: topic.clone(), clock, channel, consumer, settled: Settled::default(), waiting: Vec::new() })
    }

    /// Forwards until the connection is lost.
    async fn serve(mut self, publisher: &Publisher, link: &Link) -> Error {
        loop {
            let ready = self.take_ready();
            if !ready.is_empty() {
                if !self.publish(publisher, ready).await {
                    sleep(AGAIN).await;
                }
                self.collect();
                continue;
            }
            let next = self.waiting.iter().map(|(_, outgoing)| delay(&self.clock, outgoing)).min();
            tokio::select! {
                () = sleep(next.unwrap_or_default()), if next.is_some() => {}
                delivery = self.consumer.next() => match delivery {
                    Some(Ok(delivery)) => {
                        self.add(delivery);
                        self.collect();
                    }
                    Some(Err(error)) => return link.lost(error, "forward").of(&self.topic),
                    None => {
                        let message = "the broker ended it: the queue was deleted, or its node is gone";
                        return Error::new(ErrorKind::Disconnected, "forward", message).of(&self.topic);
                    }
                },
            }
        }
    }

    /// Takes up what is there without waiting.
    fn collect(&mut self) {
        // The end of the stream is met again when there is nothing else to do.
        while let Some(Some(Ok(delivery))) = self.consumer.next().now_or_never() {
            self.add(delivery);
        }
    }

    fn add(&mut self, delivery: Delivery) {
        let (message, again) = wire::message(self.topic.clone(), &delivery.properties, delivery.data);
        // One that comes again may have been forwarded by somebody who could not settle it any more.
        let outgoing = Outgoing { message, again: again || delivery.redelivered };
        self.waiting.push((delivery.delivery_tag, outgoing));
    }

    /// What is due, or not due for so long that it goes to another room, in the order in which it falls due.
    fn take_ready(&mut self) -> Vec<(Tag, Outgoing)> {
        let clock = &self.clock;
        let is_ready = |(_, outgoing): &mut (Tag, Outgoing)| Wait::of(delay(clock, outgoing)) != Wait::Brief;
        let mut ready: Vec<_> = self.waiting.extract_if(.., is_ready).collect();
        ready.sort_by_key(|(_, outgoing)| outgoing.message.not_before);
        ready
    }

    /// Publishes and settles; keeps what could not be published. Whether all could.
    async fn publish(&mut self, publisher: &Publisher, ready: Vec<(Tag, Outgoing)>) -> bool {
        let copies =
            ready.iter().map(|(_, Outgoing { message, again })| Outgoing { message: message.clone(), again: *again });
        let results = publisher.publish(copies.collect()).await;
        let (mut done, mut failed) = (Vec::with_capacity(ready.len()), None);
        for ((tag, outgoing), result) in ready.into_iter().zip(results) {
            match result {
                Ok(_) => done.push(tag),
                Err(error) => {
                    failed = Some(error);
                    self.waiting.push((tag, Outgoing { again: true, ..outgoing }));
                }
            }
        }
        self.settled.acknowledge(&self.channel, done);
        if let Some(error) = &failed {
            tracing::warn!(%error, topic = %self.topic, "what is due could not be published; it is tried again");
        }
        failed.is_none()
    }
}

/// How long until it is due.
fn delay(clock: &CorrectedClock, outgoing: &Outgoing) -> Duration {
    outgoing.message.not_before.map(|due| due.since(clock.now())).unwrap_or_default()
}

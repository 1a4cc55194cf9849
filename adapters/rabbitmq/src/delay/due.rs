//! The messages of a topic that may be due, in the memory of its forwarder.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer};
use partitura_adapter_kit::{Backoff, Pace};
use partitura_broker::{
    Clock, CorrectedClock, Error, ErrorKind, Ordering, Partition, Receipt, Result, Topic, TopicName, partition_of,
};
use tokio::time::{Instant, sleep_until};

use super::wait_queues::Wait;
use crate::client::{Connector, answer};
use crate::core::Core;
use crate::publisher::{Publication, Publisher};
use crate::settlement::{Settlement, Tag};
use crate::{names, wire};

/// The largest number of messages here. They are due within two seconds.
const MAX_MESSAGES: u16 = 8_192;
/// The number of them that may be due and stuck, because their destination does not take them. Further ones are set
/// aside, so that the others go on.
const MAX_STUCK: usize = MAX_MESSAGES as usize / 2;
/// The time for which messages are set aside.
const SET_ASIDE_FOR: Duration = Duration::from_secs(60);
/// The waits before a destination is tried again that did not take a message.
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(10) };

/// The messages of a topic that may be due.
pub(super) struct DueMessages {
    topic: TopicName,
    ordering: Ordering,
    clock: CorrectedClock,
    /// The time for which a message may be kept here.
    hold: Duration,
    channel: Channel,
    consumer: Consumer,
    settlement: Settlement,
    waiting: Vec<Waiting>,
    /// The destinations that are busy, or did not take a message.
    paces: HashMap<Destination, Pace>,
    /// The calls of the publisher, at most one for each destination.
    calls: FuturesUnordered<BoxFuture<'static, Published>>,
}

struct Waiting {
    tag: Tag,
    since: Instant,
    /// Its destination when it is due.
    to: Destination,
    publication: Publication,
}

/// The next destination of a message. A destination that does not take messages keeps no others back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Destination {
    Partition(Partition),
    /// Any of the partitions: the message has no key.
    Any,
    WaitQueue,
}

struct Published {
    to: Destination,
    sent: Vec<Waiting>,
    results: Vec<Result<Receipt>>,
}

impl DueMessages {
    pub(super) async fn open(core: &Core, connector: &Connector, topic: &Topic) -> Result<Self> {
        let name = &topic.name;
        let explain = |error| connector.explain("forward", error).of(name);
        let channel = connector.channel().await?;
        answer(channel.basic_qos(MAX_MESSAGES, BasicQosOptions::default())).await.map_err(explain)?;
        let (queue, options) = (names::due(name), BasicConsumeOptions::default());
        let consumer = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default());
        Ok(Self {
            topic: name.clone(),
            ordering: topic.ordering,
            clock: core.clock.clone(),
            hold: core.client.hold_limit().local(),
            consumer: answer(consumer).await.map_err(explain)?,
            channel,
            settlement: Settlement::default(),
            waiting: Vec::new(),
            paces: HashMap::new(),
            calls: FuturesUnordered::new(),
        })
    }

    /// Forwards until the connection is lost.
    pub(super) async fn forward(mut self, publisher: &Arc<Publisher>, connector: &Connector) -> Error {
        let error = loop {
            self.set_aside();
            self.send_ready(publisher);
            let wake = self.wakes_at();
            tokio::select! {
                biased;
                Some(published) = self.calls.next() => self.land(published),
                delivery = self.consumer.next() => match delivery {
                    Some(Ok(delivery)) => {
                        self.add(delivery);
                        self.collect();
                    }
                    ended => break self.ended(ended.and_then(lapin::Result::err), connector),
                },
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {
                    if self.oldest().is_some_and(|since| since.elapsed() >= self.hold) {
                        let message = "a due message could not be published for too long and goes back to the broker";
                        break Error::new(ErrorKind::Timeout, "forward", message).of(&self.topic);
                    }
                }
            }
        };
        // This comes before the consumer is dropped. Dropping it would cancel it, and the broker would serve the next
        // consumer out of order.
        let _ = answer(self.channel.close(200, "given up".into())).await;
        error
    }

    fn ended(&self, error: Option<lapin::Error>, connector: &Connector) -> Error {
        let message = "the broker ended the consumer: the queue was deleted, or its node is gone";
        let ended = || Error::new(ErrorKind::Disconnected, "forward", message);
        error.map_or_else(ended, |error| connector.lost("forward", error)).of(&self.topic)
    }

    /// Takes the messages that have come, without waiting.
    fn collect(&mut self) {
        // The main loop meets the end of the stream again.
        while let Some(Some(Ok(delivery))) = self.consumer.next().now_or_never() {
            self.add(delivery);
        }
    }

    fn add(&mut self, delivery: Delivery) {
        let wire::Received { message, is_repeated } =
            wire::message(self.topic.clone(), &delivery.properties, delivery.data);
        // A redelivered message may have been forwarded by another forwarder that could not settle it any more.
        let is_repeated = is_repeated || delivery.redelivered;
        let publication = Publication { message, is_repeated, pause: Duration::ZERO };
        let to = match (&publication.message.key, self.ordering) {
            (Some(key), Ordering::ByKey { partitions }) => Destination::Partition(partition_of(key, partitions)),
            (None, Ordering::ByKey { .. }) => Destination::Any,
            (_, Ordering::Shared) => Destination::Partition(Partition(0)),
        };
        self.waiting.push(Waiting { tag: delivery.delivery_tag, since: Instant::now(), to, publication });
    }

    /// Publishes the messages that are due, and those that go to another wait queue: to each destination in the order
    /// of the due times.
    fn send_ready(&mut self, publisher: &Arc<Publisher>) {
        let (clock, paces) = (&self.clock, &self.paces);
        let is_ready =
            |waiting: &mut Waiting| waiting.next(clock).is_some_and(|to| paces.get(&to).is_none_or(Pace::is_ready));
        let mut batches: BTreeMap<Destination, Vec<Waiting>> = BTreeMap::new();
        for waiting in self.waiting.extract_if(.., is_ready) {
            // If the message has fallen due since, this is its final destination.
            let to = waiting.next(clock).unwrap_or(waiting.to);
            batches.entry(to).or_default().push(waiting);
        }
        for (to, mut sent) in batches {
            sent.sort_by_key(|waiting| waiting.publication.message.not_before);
            let pace = self.paces.entry(to).or_insert_with(|| Pace::new(BACKOFF));
            pace.begin();
            if pace.is_failing() {
                // The first message finds out whether the destination takes messages again.
                self.waiting.extend(sent.drain(1..));
            }
            let (publisher, copies) =
                (publisher.clone(), sent.iter().map(|waiting| waiting.publication.clone()).collect());
            self.calls.push(Box::pin(async move {
                let results = publisher.publish(copies).await;
                Published { to, sent, results }
            }));
        }
    }

    /// Settles the messages that were published, and keeps the others.
    fn land(&mut self, Published { to, sent, results }: Published) {
        let (mut done, mut failed) = (Vec::with_capacity(sent.len()), None);
        for (waiting, result) in sent.into_iter().zip(results) {
            match result {
                Ok(_) => done.push(waiting.tag),
                Err(error) => {
                    failed = Some(error);
                    self.waiting.push(Waiting {
                        publication: Publication { is_repeated: true, ..waiting.publication },
                        ..waiting
                    });
                }
            }
        }
        self.settlement.acknowledge(&self.channel, done);
        let Some(error) = failed else {
            self.paces.remove(&to);
            return;
        };
        let pause = self.paces.entry(to).or_insert_with(|| Pace::new(BACKOFF)).failed(0);
        let topic = &self.topic;
        tracing::warn!(%error, %topic, ?to, ?pause, "publishing due messages again after a pause");
    }

    /// If too many messages are due and stuck, the latest ones go to a wait queue once more.
    fn set_aside(&mut self) {
        if self.waiting.len() <= MAX_STUCK || !self.paces.values().any(Pace::is_failing) {
            return;
        }
        let (clock, paces) = (&self.clock, &self.paces);
        let is_stuck = |waiting: &Waiting| {
            let failing = |to| paces.get(&to).is_some_and(Pace::is_failing);
            waiting.next(clock).is_some_and(|to| to != Destination::WaitQueue && failing(to))
        };
        let mut stuck: Vec<_> = self.waiting.iter_mut().filter(|waiting| is_stuck(waiting)).collect();
        if stuck.len() > MAX_STUCK {
            stuck.sort_by_key(|waiting| waiting.publication.message.not_before);
            stuck[MAX_STUCK..].iter_mut().for_each(|waiting| waiting.publication.pause = SET_ASIDE_FOR);
        }
    }

    /// The moment of the next work, if nothing happens before.
    fn wakes_at(&self) -> Option<Instant> {
        let now = Instant::now();
        let next = self.waiting.iter().filter_map(|waiting| {
            match waiting.next(&self.clock) {
                None => Some(now + delay(&self.clock, &waiting.publication)),
                // If the destination is busy, the end of its call comes first.
                Some(to) => self.paces.get(&to).map_or(Some(now), Pace::ready_at),
            }
        });
        next.chain(self.oldest().and_then(|since| since.checked_add(self.hold))).min()
    }

    fn oldest(&self) -> Option<Instant> {
        self.waiting.iter().map(|waiting| waiting.since).min()
    }
}

impl Waiting {
    /// The destination to which it goes now. `None`: it waits here.
    fn next(&self, clock: &CorrectedClock) -> Option<Destination> {
        match Wait::for_delay(delay(clock, &self.publication).max(self.publication.pause)) {
            Wait::Brief => None,
            Wait::InQueue(_) => Some(Destination::WaitQueue),
            Wait::None => Some(self.to),
        }
    }
}

/// The time until a message is due.
fn delay(clock: &CorrectedClock, publication: &Publication) -> Duration {
    publication.message.not_before.map(|due| due.since(clock.now())).unwrap_or_default()
}

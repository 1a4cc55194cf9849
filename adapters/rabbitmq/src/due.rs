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

use crate::core::Core;
use crate::delay::Wait;
use crate::link::{Link, answer};
use crate::publisher::{Outgoing, Publisher};
use crate::settled::{Settled, Tag};
use crate::{names, wire};

/// How many messages that are due within two seconds wait here.
const AHEAD: u16 = 8_192;
/// How many of them may be due and not taken by where they go. Further ones are set aside, so that the rest goes on.
const STUCK: usize = AHEAD as usize / 2;
/// For how long these are set aside.
const ASIDE: Duration = Duration::from_secs(60);
/// How soon is tried again what could not be published, for each of the places where messages go.
const AGAIN: Backoff = Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(10) };

/// What may be due of a topic, at hand.
pub(crate) struct Due {
    topic: TopicName,
    ordering: Ordering,
    clock: CorrectedClock,
    /// For how long anything is kept here.
    hold: Duration,
    channel: Channel,
    consumer: Consumer,
    settled: Settled,
    waiting: Vec<Waiting>,
    /// Of the destinations that are busy or refuse.
    paces: HashMap<Destination, Pace>,
    /// At most one for each destination.
    calls: FuturesUnordered<BoxFuture<'static, Published>>,
}

struct Waiting {
    tag: Tag,
    since: Instant,
    /// Where it goes when it is due.
    to: Destination,
    outgoing: Outgoing,
}

/// Where a message goes next. What one of them does not take keeps nothing else back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Destination {
    Partition(Partition),
    /// Any of the partitions: the message has no key.
    Any,
    Room,
}

struct Published {
    to: Destination,
    sent: Vec<Waiting>,
    results: Vec<Result<Receipt>>,
}

impl Due {
    pub(crate) async fn open(core: &Core, link: &Link, topic: &Topic) -> Result<Self> {
        let name = &topic.name;
        let explain = |error| link.explain(error, "forward").of(name);
        let channel = link.channel().await?;
        answer(channel.basic_qos(AHEAD, BasicQosOptions::default())).await.map_err(explain)?;
        let (queue, options) = (names::due(name), BasicConsumeOptions::default());
        let consumer = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default());
        Ok(Self {
            topic: name.clone(),
            ordering: topic.ordering,
            clock: core.clock.clone(),
            hold: core.dial.hold().ours(),
            consumer: answer(consumer).await.map_err(explain)?,
            channel,
            settled: Settled::default(),
            waiting: Vec::new(),
            paces: HashMap::new(),
            calls: FuturesUnordered::new(),
        })
    }

    /// Forwards until the connection is lost.
    pub(crate) async fn forward(mut self, publisher: &Arc<Publisher>, link: &Link) -> Error {
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
                    ended => break self.ended(ended.and_then(lapin::Result::err), link),
                },
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {
                    if self.oldest().is_some_and(|since| since.elapsed() >= self.hold) {
                        let message = "what is due could not be published for so long that it goes back to the broker";
                        break Error::new(ErrorKind::Timeout, "forward", message).of(&self.topic);
                    }
                }
            }
        };
        // Before the consumer is dropped, which would cancel it, and have the next one served out of order.
        let _ = answer(self.channel.close(200, "given up".into())).await;
        error
    }

    fn ended(&self, error: Option<lapin::Error>, link: &Link) -> Error {
        let message = "the broker ended it: the queue was deleted, or its node is gone";
        let ended = || Error::new(ErrorKind::Disconnected, "forward", message);
        error.map_or_else(ended, |error| link.lost(error, "forward")).of(&self.topic)
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
        let outgoing = Outgoing { message, again: again || delivery.redelivered, pause: Duration::ZERO };
        let to = match (&outgoing.message.key, self.ordering) {
            (Some(key), Ordering::ByKey { partitions }) => Destination::Partition(partition_of(key, partitions)),
            (None, Ordering::ByKey { .. }) => Destination::Any,
            (_, Ordering::Shared) => Destination::Partition(Partition(0)),
        };
        self.waiting.push(Waiting { tag: delivery.delivery_tag, since: Instant::now(), to, outgoing });
    }

    /// Publishes what is due, or not due for so long that it goes to another room: to each destination in the order in
    /// which it falls due.
    fn send_ready(&mut self, publisher: &Arc<Publisher>) {
        let (clock, paces) = (&self.clock, &self.paces);
        let is_ready =
            |waiting: &mut Waiting| waiting.next(clock).is_some_and(|to| paces.get(&to).is_none_or(Pace::is_ready));
        let mut batches: BTreeMap<Destination, Vec<Waiting>> = BTreeMap::new();
        for waiting in self.waiting.extract_if(.., is_ready) {
            // That of the moment before, should it have fallen due since.
            let to = waiting.next(clock).unwrap_or(waiting.to);
            batches.entry(to).or_default().push(waiting);
        }
        for (to, mut sent) in batches {
            sent.sort_by_key(|waiting| waiting.outgoing.message.not_before);
            let pace = self.paces.entry(to).or_insert_with(|| Pace::new(AGAIN));
            pace.begin();
            if pace.is_failing() {
                // The first finds out whether the others may follow.
                self.waiting.extend(sent.drain(1..));
            }
            let (publisher, copies) =
                (publisher.clone(), sent.iter().map(|waiting| waiting.outgoing.clone()).collect());
            self.calls.push(Box::pin(async move {
                let results = publisher.publish(copies).await;
                Published { to, sent, results }
            }));
        }
    }

    /// Settles what was published, and keeps the rest.
    fn land(&mut self, Published { to, sent, results }: Published) {
        let (mut done, mut failed) = (Vec::with_capacity(sent.len()), None);
        for (waiting, result) in sent.into_iter().zip(results) {
            match result {
                Ok(_) => done.push(waiting.tag),
                Err(error) => {
                    failed = Some(error);
                    self.waiting.push(Waiting { outgoing: Outgoing { again: true, ..waiting.outgoing }, ..waiting });
                }
            }
        }
        self.settled.acknowledge(&self.channel, done);
        let Some(error) = failed else {
            self.paces.remove(&to);
            return;
        };
        let pause = self.paces.entry(to).or_insert_with(|| Pace::new(AGAIN)).failed(0);
        let topic = &self.topic;
        tracing::warn!(%error, %topic, ?to, ?pause, "what is due could not be published; it is tried again");
    }

    /// Where too much is due that cannot be published, the latest of it goes to a room once more.
    fn set_aside(&mut self) {
        if self.waiting.len() <= STUCK || !self.paces.values().any(Pace::is_failing) {
            return;
        }
        let (clock, paces) = (&self.clock, &self.paces);
        let is_stuck = |waiting: &Waiting| {
            let failing = |to| paces.get(&to).is_some_and(Pace::is_failing);
            waiting.next(clock).is_some_and(|to| to != Destination::Room && failing(to))
        };
        let mut stuck: Vec<_> = self.waiting.iter_mut().filter(|waiting| is_stuck(waiting)).collect();
        if stuck.len() > STUCK {
            stuck.sort_by_key(|waiting| waiting.outgoing.message.not_before);
            stuck[STUCK..].iter_mut().for_each(|waiting| waiting.outgoing.pause = ASIDE);
        }
    }

    /// When there is something to do, if nothing happens before.
    fn wakes_at(&self) -> Option<Instant> {
        let now = Instant::now();
        let next = self.waiting.iter().filter_map(|waiting| {
            match waiting.next(&self.clock) {
                None => Some(now + delay(&self.clock, &waiting.outgoing)),
                // While it is busy, that it is not any more is the next thing to happen.
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
    /// Where it goes now; `None`: it waits here.
    fn next(&self, clock: &CorrectedClock) -> Option<Destination> {
        match Wait::of(delay(clock, &self.outgoing).max(self.outgoing.pause)) {
            Wait::Brief => None,
            Wait::Room(_) => Some(Destination::Room),
            Wait::None => Some(self.to),
        }
    }
}

/// How long until it is due.
fn delay(clock: &CorrectedClock, outgoing: &Outgoing) -> Duration {
    outgoing.message.not_before.map(|due| due.since(clock.now())).unwrap_or_default()
}

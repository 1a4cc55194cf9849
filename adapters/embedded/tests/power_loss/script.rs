//! The actions before and during a power failure.

use std::mem;
use std::time::Duration;

use bytes::Bytes;
use partitura_broker::{
    AckToken, Broker, Clock, Consumer, ConsumerOptions, Credit, ErrorKind, Event, Expect, Message, Ordering,
    ProducerOptions, Put, Space, SystemClock, Topology, Transactions, Unit,
};
use partitura_embedded::{Embedded, Options};

use crate::chance::Chance;
use crate::disk::{self, Image, Kind};
use crate::expected::{Expected, PLACES};

pub(crate) const PARTITIONS: u32 = 2;
pub(crate) const SPACE: Space = "values";
/// Topics that are declared on the way.
pub(crate) const TOPICS: [&str; 3] = ["t1", "t2", "t3"];
const STEPS: usize = 24;
const KEYS: usize = 12;
const DELAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Between two confirms.
#[derive(Debug)]
pub(crate) struct Moment {
    pub(crate) kind: Kind,
    /// The files when everything before was confirmed, and when everything of it was.
    pub(crate) before: Image,
    pub(crate) after: Image,
    /// The possible states: first the one that was confirmed before, last all actions, and between them the actions in
    /// this order.
    pub(crate) states: Vec<Expected>,
}

/// The topics of the places.
pub(crate) fn places() -> Topology {
    let ordering = Ordering::ByKey { partitions: PARTITIONS };
    let topology = Topology::new().queue("q".parse().unwrap(), ordering).stream("e".parse().unwrap(), ordering);
    let subscribe = |topology: Topology, (topic, subscription): (&str, &str)| {
        topology.subscription(subscription.parse().unwrap(), [topic.parse().unwrap()])
    };
    PLACES.into_iter().fold(topology, subscribe)
}

pub(crate) fn named(topic: &str) -> Topology {
    let topology = Topology::new().queue(topic.parse().unwrap(), Ordering::Shared);
    topology.subscription("s".parse().unwrap(), [topic.parse().unwrap()])
}

/// A broker at work, with its expected state.
struct Script {
    directory: tempfile::TempDir,
    broker: Embedded,
    consumers: Vec<Box<dyn Consumer>>,
    /// The unsettled deliveries: the place, the id and the token.
    held: Vec<(usize, String, AckToken)>,
    published: usize,
    now: Expected,
    moments: Vec<Moment>,
    chance: Chance,
}

/// Carries out a script.
pub(crate) async fn record(seed: u64) -> Vec<Moment> {
    let mut script = Script::begin(seed).await;
    for _ in 0..STEPS {
        script.step().await;
    }
    script.close().await
}

impl Script {
    async fn begin(seed: u64) -> Self {
        let directory = disk::scratch();
        let broker = Embedded::open(directory.path(), Options::default()).unwrap();
        let (consumers, held, moments) = Default::default();
        let (now, chance) = (Expected::default(), Chance::new(seed));
        let mut script = Self { directory, broker, consumers, held, published: 0, now, moments, chance };
        let before = script.image();
        script.broker.declare(&places()).await.unwrap();
        let declared = Expected { is_declared: true, ..Expected::default() };
        script.confirmed(Kind::Write, before, vec![declared]);
        let credit = Credit { messages: (1 << 20).try_into().unwrap(), bytes: (1 << 30).try_into().unwrap() };
        for (topic, subscription) in PLACES {
            let options = ConsumerOptions::new(subscription.parse().unwrap(), [topic.parse().unwrap()]);
            script.consumers.push(script.broker.consumer(options.credit(credit)).await.unwrap());
        }
        script
    }

    fn image(&self) -> Image {
        Image::read(self.directory.path())
    }

    /// Notes that all actions are confirmed. They led through these states, to the last one.
    fn confirmed(&mut self, kind: Kind, before: Image, states: Vec<Expected>) {
        let after = self.image();
        let last = states.last().unwrap_or(&self.now).clone();
        let first = mem::replace(&mut self.now, last);
        self.moments.push(Moment { kind, before, after, states: [vec![first], states].concat() });
    }

    async fn step(&mut self) {
        match self.chance.below(10) {
            0..3 => self.publish().await,
            3..7 => self.commit().await,
            7 => self.settle().await,
            8 => self.declare().await,
            _ => self.checkpoint(),
        }
        self.receive().await;
    }

    async fn publish(&mut self) {
        let before = self.image();
        let messages: Vec<Message> = (0..self.chance.up_to(12)).map(|_| self.message()).collect();
        let producer = self.broker.producer(ProducerOptions::default()).await.unwrap();
        for result in producer.publish(messages.clone()).await {
            result.unwrap();
        }
        let mut state = self.now.clone();
        messages.iter().for_each(|message| state.publish(message));
        self.confirmed(Kind::Write, before, vec![state]);
    }

    /// Several commits at once: the broker decides how to group them.
    async fn commit(&mut self) {
        let before = self.image();
        let (mut states, mut state) = (Vec::new(), self.now.clone());
        let mut commits = Vec::new();
        for _ in 0..self.chance.up_to(3) {
            let (unit, conflicts) = self.unit(&mut state);
            states.push(state.clone());
            let broker = self.broker.clone();
            // Polled in this order, on the one thread of the test.
            commits.push((conflicts, tokio::spawn(async move { broker.commit(vec![unit]).await.remove(0) })));
        }
        for (conflicts, commit) in commits {
            let refused = commit.await.unwrap().err().map(|error| error.kind());
            assert_eq!(refused, conflicts.then_some(ErrorKind::Conflict));
        }
        self.confirmed(Kind::Write, before, states);
    }

    /// A unit, the state after it, and whether it must be refused.
    fn unit(&mut self, state: &mut Expected) -> (Unit, bool) {
        let mut unit = Unit::default();
        let mut then = state.clone();
        let taken = state.values.keys().next().cloned();
        let conflicting = taken.filter(|_| self.chance.one_in(6));
        let settled = if conflicting.is_none() { self.take_held(3) } else { Vec::new() };
        for (place, id, token) in settled {
            unit.settle.push(token);
            then.settle(place, &id);
        }
        for _ in 0..self.chance.below(4) {
            let message = self.message();
            then.publish(&message);
            unit.publish.push(message);
        }
        let first = self.chance.below(KEYS);
        for key in (first..KEYS).take(self.chance.up_to(3)) {
            let key = format!("key {key}").into_bytes();
            let length = self.chance.below(3_000);
            let value = Some(self.chance.bytes(length)).filter(|_| !self.chance.one_in(5));
            let expect = then.values.get(&key).map_or(Expect::Absent, |(version, _)| Expect::Version(*version));
            then.put(&key, value.as_deref());
            unit.put.push(Put { space: SPACE, key: key.into(), expect, value: value.map(Bytes::from) });
        }
        let Some(key) = conflicting else {
            *state = then;
            return (unit, false);
        };
        unit.put.retain(|put| put.key != key);
        unit.put.push(Put { space: SPACE, key: key.into(), expect: Expect::Absent, value: Some("no".into()) });
        (unit, true)
    }

    async fn settle(&mut self) {
        let before = self.image();
        let (mut states, mut state) = (Vec::new(), self.now.clone());
        for (place, id, token) in self.take_held(20) {
            self.consumers[place].settle(&[token]);
            state.settle(place, &id);
            // In this order, and perhaps not all in one write.
            states.push(state.clone());
        }
        for consumer in &mut self.consumers {
            consumer.flush().await.unwrap();
        }
        self.confirmed(Kind::Write, before, states);
    }

    async fn declare(&mut self) {
        let Some(topic) = TOPICS.into_iter().find(|topic| !self.now.topics.contains(*topic)) else { return };
        let before = self.image();
        self.broker.declare(&named(topic)).await.unwrap();
        let mut state = self.now.clone();
        state.topics.insert(topic.to_owned());
        self.confirmed(Kind::Write, before, vec![state]);
    }

    /// As the broker's own thread does it, but at a moment of the test's choice.
    fn checkpoint(&mut self) {
        let before = self.image();
        let connection = rusqlite::Connection::open(self.directory.path().join("partitura.db")).unwrap();
        let left = connection
            .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| Ok(row.get::<_, i64>(1)? - row.get::<_, i64>(2)?));
        assert_eq!(left.unwrap(), 0, "nobody reads or writes meanwhile");
        drop(connection);
        self.confirmed(Kind::Checkpoint, before, Vec::new());
    }

    /// The last one to close the file empties the log, and removes it.
    async fn close(mut self) -> Vec<Moment> {
        let before = self.image();
        self.consumers.clear();
        self.broker.close().await.unwrap();
        self.confirmed(Kind::Close, before, Vec::new());
        self.moments
    }

    fn message(&mut self) -> Message {
        self.published += 1;
        let topic = if self.chance.one_in(3) { "e" } else { "q" };
        let length = self.chance.below(if self.chance.clone().one_in(4) { 9_000 } else { 400 });
        let payload = self.chance.bytes(length);
        let message = Message::new(topic.parse().unwrap(), format!("m{}", self.published), payload);
        let message = message.key(format!("k{}", self.chance.below(5))).header("h", "v");
        if self.chance.one_in(8) { message.not_before(SystemClock.now() + DELAY) } else { message }
    }

    fn take_held(&mut self, most: usize) -> Vec<(usize, String, AckToken)> {
        let count = self.chance.below(most + 1).min(self.held.len());
        (0..count).map(|_| self.held.swap_remove(self.chance.below(self.held.len()))).collect()
    }

    /// Takes everything that is due, so that it can be settled.
    async fn receive(&mut self) {
        for place in 0..PLACES.len() {
            let due = self.now.waiting[place].iter().filter(|message| message.not_before.is_none()).count();
            while self.held.iter().filter(|(of, ..)| *of == place).count() < due {
                if let Event::Deliveries(deliveries) = self.consumers[place].next().await.unwrap() {
                    let held =
                        deliveries.into_iter().map(|delivery| (place, delivery.message.id.to_string(), delivery.token));
                    self.held.extend(held);
                }
            }
        }
    }
}

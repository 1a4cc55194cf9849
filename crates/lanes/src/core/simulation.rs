//! The core against a small model of a broker, over arbitrary interleavings.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use partitura_broker::{AckToken, Delivery, Message, Partition, Timestamp, TopicName, partition_of};
use proptest::prelude::*;

use super::{Burial, Core, Move, Now, Parking, Settings, Start};
use crate::headers::MARKER;
use crate::{Outcome, Retry};

const PARTITIONS: u32 = 2;
const KEYS: u8 = 4;

#[derive(Debug, Clone)]
enum Step {
    Publish(u8),
    Deliver { parking: bool, partition: u8, count: u8 },
    Begin,
    End { which: u8, how: How },
    Park { succeeds: bool, stored: bool },
    Bury { confirmed: bool },
    Mark { confirmed: bool },
    Pass(u16),
    Lose(u8),
    Revoke(u8),
    Crash,
}

#[derive(Debug, Clone, Copy)]
enum How {
    Done,
    Retry,
    Dead,
}

fn step() -> impl Strategy<Value = Step> {
    let how = prop_oneof![4 => Just(How::Done), 3 => Just(How::Retry), 1 => Just(How::Dead)];
    prop_oneof![
        12 => (0..KEYS).prop_map(Step::Publish),
        16 => (any::<bool>(), 0..2u8, 1..6u8).prop_map(|(parking, partition, count)| Step::Deliver { parking, partition, count }),
        12 => Just(Step::Begin),
        16 => (any::<u8>(), how).prop_map(|(which, how)| Step::End { which, how }),
        6 => Just(Step::Park { succeeds: true, stored: true }),
        2 => any::<bool>().prop_map(|stored| Step::Park { succeeds: false, stored }),
        3 => Just(Step::Bury { confirmed: true }),
        1 => Just(Step::Bury { confirmed: false }),
        4 => Just(Step::Mark { confirmed: true }),
        1 => Just(Step::Mark { confirmed: false }),
        6 => (1..600u16).prop_map(Step::Pass),
        1 => (0..2u8).prop_map(Step::Lose),
        1 => (0..2u8).prop_map(Step::Revoke),
        1 => Just(Step::Crash),
    ]
}

/// A topic's partition, as the broker has it.
#[derive(Debug, Default)]
struct Log {
    messages: Vec<(Message, bool)>,
    /// How far the owner has read in its term.
    cursor: usize,
}

#[derive(Debug)]
struct World {
    core: Core,
    now: u64,
    logs: BTreeMap<(bool, u32), Log>,
    epochs: [u32; PARTITIONS as usize],
    owned: [bool; PARTITIONS as usize],
    /// By slot: where the message is.
    slots: Vec<(bool, u32, usize)>,
    outstanding: [BTreeSet<u32>; 2],
    credit: usize,
    seeds: u64,
    published: [u32; KEYS as usize],
    done: BTreeSet<(u8, u32)>,
    runs: BTreeMap<(u8, u32), u32>,
    running: Vec<Start>,
    moves: Vec<Move>,
    burials: Vec<Burial>,
    markers: Vec<super::Marker>,
}

fn topic(parking: bool) -> TopicName {
    if parking { "orders.billing.parking" } else { "orders" }.parse().unwrap()
}

fn identity(message: &Message) -> (u8, u32) {
    let (key, number) = message.id.as_str().split_once('-').unwrap();
    (key.parse().unwrap(), number.parse().unwrap())
}

impl World {
    fn new(parking: bool, batch: usize, credit: usize) -> Self {
        let mut world = Self {
            core: new_core(parking, batch, 1),
            seeds: 1,
            now: 1_000_000,
            logs: BTreeMap::new(),
            epochs: [0; 2],
            owned: [false; 2],
            slots: Vec::new(),
            outstanding: Default::default(),
            credit,
            published: [0; KEYS as usize],
            done: BTreeSet::new(),
            runs: BTreeMap::new(),
            running: Vec::new(),
            moves: Vec::new(),
            burials: Vec::new(),
            markers: Vec::new(),
        };
        (0..PARTITIONS).for_each(|partition| world.assign(partition));
        world
    }

    fn now(&self) -> Now {
        Now { steady: Duration::from_millis(self.now), wall: Timestamp::from_millis(self.now) }
    }

    fn assign(&mut self, partition: u32) {
        self.epochs[partition as usize] += 1;
        self.owned[partition as usize] = true;
        for parking in [false, true] {
            self.logs.entry((parking, partition)).or_default().cursor = 0;
        }
        self.core.assigned(Partition(partition), self.now());
        self.collect();
    }

    fn disown(&mut self, partition: u32) {
        self.owned[partition as usize] = false;
        self.epochs[partition as usize] += 1;
        for outstanding in &mut self.outstanding {
            outstanding.retain(|slot| self.slots[*slot as usize].1 != partition);
        }
    }

    fn deliver(&mut self, parking: bool, partition: u32, count: usize) {
        if !self.owned[partition as usize] {
            return;
        }
        for _ in 0..count {
            let held = self.outstanding[usize::from(parking)].len();
            let log = self.logs.get_mut(&(parking, partition)).unwrap();
            while log.messages.get(log.cursor).is_some_and(|(_, settled)| *settled) {
                log.cursor += 1;
            }
            if held >= self.credit || log.cursor >= log.messages.len() {
                return;
            }
            let slot = self.slots.len() as u32;
            self.slots.push((parking, partition, log.cursor));
            let message = log.messages[log.cursor].0.clone();
            log.cursor += 1;
            self.outstanding[usize::from(parking)].insert(slot);
            let epoch = self.epochs[partition as usize];
            let token = AckToken { consumer: 1, partition: Partition(partition), epoch, slot };
            let delivery = Delivery { message, partition: Partition(partition), redelivered: true, token };
            self.core.deliver(delivery, self.now());
            self.collect();
        }
    }

    fn settle(&mut self, token: AckToken) {
        let partition = token.partition.0;
        if token.epoch != self.epochs[partition as usize] {
            return;
        }
        let (parking, _, at) = self.slots[token.slot as usize];
        let fresh = self.outstanding[usize::from(parking)].remove(&token.slot);
        assert!(fresh, "settled twice");
        let log = self.logs.get_mut(&(parking, partition)).unwrap();
        log.messages[at].1 = true;
        let message = log.messages[at].0.clone();
        if message.headers.get(MARKER).is_some() || self.done.contains(&identity(&message)) {
            return;
        }
        let copies = self.logs.values().flat_map(|log| &log.messages);
        let kept = copies.filter(|(other, settled)| !settled && other.id == message.id).count();
        assert!(kept > 0, "{} was settled before it was done", message.id);
    }

    /// Does what the core says.
    fn collect(&mut self) {
        self.core.tick(self.now());
        self.moves.extend(self.core.moves());
        self.markers.extend(self.core.markers());
        while let Some(burial) = self.core.burial() {
            self.burials.push(burial);
        }
        for token in std::mem::take(self.core.settlements()) {
            self.settle(token);
        }
        for token in self.core.late_settlements() {
            self.settle(token);
        }
        for Partition(partition) in self.core.released() {
            assert!(self.owned[partition as usize]);
            self.disown(partition);
            self.assign(partition);
        }
    }

    fn begin(&mut self) {
        while let Some(start) = self.core.start() {
            let first = &start.batch[0].message;
            assert!(self.running.iter().all(|other| other.batch[0].message.key != first.key), "two of a key at once");
            assert_eq!(first.topic, topic(false));
            assert!(first.headers.is_empty());
            for delivery in &start.batch {
                assert_eq!(delivery.message.key, first.key);
            }
            // What precedes must be done, or be in the same batch.
            let batch = start.batch.iter().map(|delivery| identity(&delivery.message)).collect::<Vec<_>>();
            for (at, (key, number)) in batch.iter().enumerate() {
                for earlier in 0..*number {
                    let before = (*key, earlier);
                    assert!(
                        self.done.contains(&before) || batch[..at].contains(&before),
                        "{key}-{number} overtook {earlier}"
                    );
                }
            }
            self.running.push(start);
        }
        assert!(self.core.running() <= 3);
        self.collect();
    }

    fn end(&mut self, which: usize, how: How) {
        if self.running.is_empty() {
            return;
        }
        let start = self.running.remove(which % self.running.len());
        let outcome = match how {
            How::Done => {
                for delivery in &start.batch {
                    let identity = identity(&delivery.message);
                    // Work that was done counts, whether or not it can be settled.
                    self.done.insert(identity);
                    *self.runs.entry(identity).or_default() += 1;
                }
                Outcome::Done
            }
            How::Retry => Outcome::retry("no"),
            How::Dead => Outcome::dead("never"),
        };
        self.core.finished(start.lane, outcome, self.now());
        self.collect();
    }

    fn park(&mut self, succeeds: bool, stored: bool) {
        let moves = std::mem::take(&mut self.moves);
        for Move { message, .. } in moves.iter().filter(|_| stored) {
            let partition = partition_of(message.key.as_ref().unwrap(), PARTITIONS).0;
            self.logs.get_mut(&(true, partition)).unwrap().messages.push((message.clone(), false));
        }
        for Move { token, .. } in moves.iter().filter(|_| succeeds) {
            self.settle(*token);
        }
        for Move { lane, token, .. } in moves {
            self.core.moved(lane, token, succeeds, self.now());
        }
        self.collect();
    }

    fn bury(&mut self, confirmed: bool) {
        for burial in std::mem::take(&mut self.burials) {
            if confirmed {
                let identity = identity(&burial.delivery.message);
                self.done.insert(identity);
                *self.runs.entry(identity).or_default() += 1;
            }
            self.core.buried(burial.lane, confirmed, self.now());
        }
        self.collect();
    }

    fn mark(&mut self, confirmed: bool) {
        for marker in std::mem::take(&mut self.markers) {
            if confirmed {
                let message = Message::new(topic(true), "marker", "").header(MARKER, marker.term.to_string());
                self.logs.get_mut(&(true, marker.partition.0)).unwrap().messages.push((message, false));
                self.core.marker_confirmed(marker);
            } else {
                self.core.marker_failed(marker, self.now());
            }
        }
        self.collect();
    }

    fn run(&mut self, step: Step, batch: usize, parking: bool) {
        match step {
            Step::Publish(key) => {
                let bytes = format!("key-{key}");
                let number = self.published[key as usize];
                self.published[key as usize] += 1;
                let partition = partition_of(bytes.as_bytes(), PARTITIONS).0;
                let message = Message::new(topic(false), format!("{key}-{number}"), "").key(bytes);
                self.logs.get_mut(&(false, partition)).unwrap().messages.push((message, false));
            }
            Step::Deliver { parking, partition, count } => self.deliver(parking, partition.into(), count.into()),
            Step::Begin => self.begin(),
            Step::End { which, how } => self.end(which.into(), how),
            Step::Park { succeeds, stored } => self.park(succeeds, stored),
            Step::Bury { confirmed } => self.bury(confirmed),
            Step::Mark { confirmed } => self.mark(confirmed),
            Step::Pass(millis) => {
                self.now += u64::from(millis);
                self.collect();
            }
            Step::Lose(partition) if self.owned[partition as usize] => {
                self.disown(partition.into());
                self.core.lost(Partition(partition.into()), self.now());
                self.collect();
                self.assign(partition.into());
            }
            Step::Revoke(partition) => {
                self.core.revoking(Partition(partition.into()));
                self.collect();
            }
            Step::Crash => {
                self.seeds += 1;
                self.core = new_core(parking, batch, self.seeds);
                self.running.clear();
                self.moves.clear();
                self.burials.clear();
                self.markers.clear();
                (0..PARTITIONS).for_each(|partition| self.disown(partition));
                (0..PARTITIONS).for_each(|partition| self.assign(partition));
            }
            Step::Lose(_) => {}
        }
    }

    fn is_over(&self) -> bool {
        let all: usize = self.published.iter().map(|count| *count as usize).sum();
        let left = self.logs.values().flat_map(|log| &log.messages).filter(|(_, settled)| !settled);
        self.done.len() == all && left.filter(|(message, _)| message.headers.get(MARKER).is_none()).count() == 0
    }

    /// Lets everything succeed, until all is done.
    fn finish(&mut self) {
        for _ in 0..5_000 {
            if self.is_over() {
                return;
            }
            self.mark(true);
            for (parking, partition) in [(false, 0), (true, 0), (false, 1), (true, 1)] {
                self.deliver(parking, partition, 100);
            }
            self.begin();
            while !self.running.is_empty() {
                self.end(0, How::Done);
            }
            self.bury(true);
            self.park(true, true);
            self.now += 20;
            self.collect();
        }
        panic!("it never comes to an end: {:#?}", self.core);
    }
}

fn new_core(parking: bool, batch: usize, seed: u64) -> Core {
    Core::new(Settings {
        concurrency: 3,
        batch,
        retry: Retry::fixed(Duration::from_millis(100)),
        ordered: true,
        assigned: true,
        parking: parking.then(|| Parking {
            topic: topic(true),
            hold: Duration::from_millis(400),
            behind: 2,
            full_messages: 2,
            full_bytes: 1 << 20,
        }),
        // Mixed, as a random one would be.
        seed: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15),
    })
}

impl Step {
    fn is_fault(&self) -> bool {
        match self {
            Self::Park { succeeds, .. } => !succeeds,
            Self::Bury { confirmed } | Self::Mark { confirmed } => !confirmed,
            Self::Lose(_) | Self::Revoke(_) | Self::Crash => true,
            _ => false,
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(step(), 1..300)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// No loss, no order violation, no overlap, nothing settled before it is done, and it always comes to an end:
    /// with failing publishes, lost partitions, hand-overs and crashes in any order.
    #[test]
    fn order_and_messages_survive_every_interleaving(
        steps in steps(), parking in any::<bool>(), batch in 1..4usize, credit in 14..24usize,
    ) {
        let mut world = World::new(parking, batch, credit);
        for step in steps {
            world.run(step, batch, parking);
        }
        world.finish();
    }

    /// Without faults, parking and retry included, every message is done exactly once.
    #[test]
    fn without_faults_everything_is_done_exactly_once(
        steps in steps(), parking in any::<bool>(), batch in 1..4usize, credit in 14..24usize,
    ) {
        let mut world = World::new(parking, batch, credit);
        for step in steps.into_iter().filter(|step| !step.is_fault()) {
            world.run(step, batch, parking);
        }
        world.finish();
        prop_assert!(world.runs.values().all(|runs| *runs == 1), "{:?}", world.runs);
        prop_assert!(world.core.lanes.iter().all(|lane| lane.is_free), "nothing is left behind");
        prop_assert_eq!(world.core.index.len(), 0);
    }
}

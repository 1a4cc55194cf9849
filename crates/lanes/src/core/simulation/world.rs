use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use partitura_broker::{AckToken, Delivery, Message, Partition, Timestamp, partition_of};

use super::kind::{ACCUSED, Kind, PARTITIONS, new_core, topic};
use super::log::{Log, Stored};
use super::steps::{How, KEYS, Step};
use crate::core::{Actions, Burial, Core, Marker, Move, Now, Start};
use crate::headers::{MARKER, SUSPECT};
use crate::{Outcome, Trials};

/// A message: its key and its number.
type Numbered = (u8, u32);

/// One owner of two partitions and of their parking.
#[derive(Debug)]
pub(super) struct World {
    core: Core,
    kind: Kind,
    now: u64,
    logs: BTreeMap<(bool, u32), Log>,
    epochs: [u32; PARTITIONS as usize],
    owned: [bool; PARTITIONS as usize],
    /// By slot: where the message is.
    slots: Vec<(bool, u32, usize)>,
    outstanding: [BTreeSet<u32>; 2],
    seeds: u64,
    published: [u32; KEYS as usize],
    done: BTreeSet<Numbered>,
    runs: BTreeMap<Numbered, u32>,
    /// The messages that end the process that runs them.
    killers: BTreeSet<Numbered>,
    /// How often each message was begun, and when it was the last time.
    begun: BTreeMap<Numbered, (u32, u64)>,
    given_up: BTreeSet<Numbered>,
    /// How often each message counted as begun when a process was lost.
    lost: BTreeMap<Numbered, u32>,
    running: Vec<Start>,
    moves: Vec<Move>,
    burials: Vec<Burial>,
    markers: Vec<Marker>,
}

fn identity(message: &Message) -> Numbered {
    let (key, number) = message.id.as_str().split_once('-').unwrap();
    (key.parse().unwrap(), number.parse().unwrap())
}

impl World {
    pub(super) fn new(kind: Kind) -> Self {
        let mut world = Self {
            core: new_core(kind, 1),
            kind,
            seeds: 1,
            now: 1_000_000,
            logs: BTreeMap::new(),
            epochs: [0; 2],
            owned: [false; 2],
            slots: Vec::new(),
            outstanding: Default::default(),
            published: [0; KEYS as usize],
            done: BTreeSet::new(),
            runs: BTreeMap::new(),
            killers: BTreeSet::new(),
            begun: BTreeMap::new(),
            given_up: BTreeSet::new(),
            lost: BTreeMap::new(),
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
            let log = self.logs.entry((parking, partition)).or_default();
            (log.cursor, log.old) = (0, log.messages.len());
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
            while log.messages.get(log.cursor).is_some_and(|stored| stored.settled) {
                log.cursor += 1;
            }
            if held >= self.kind.credit || log.cursor >= log.messages.len() {
                return;
            }
            let slot = self.slots.len() as u32;
            self.slots.push((parking, partition, log.cursor));
            let is_old = log.cursor < log.old;
            let stored = &mut log.messages[log.cursor];
            let redelivered = std::mem::replace(&mut stored.delivered, true) || (self.kind.flags_old && is_old);
            let message = stored.message.clone();
            log.cursor += 1;
            self.outstanding[usize::from(parking)].insert(slot);
            let epoch = self.epochs[partition as usize];
            let token = AckToken { consumer: 1, partition: Partition(partition), epoch, slot };
            let delivery = Delivery { message, partition: Partition(partition), redelivered, token };
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
        log.messages[at].settled = true;
        let message = log.messages[at].message.clone();
        if message.headers.get(MARKER).is_some() || self.done.contains(&identity(&message)) {
            return;
        }
        let copies = self.logs.values().flat_map(|log| &log.messages);
        let kept = copies.filter(|other| !other.settled && other.message.id == message.id).count();
        assert!(kept > 0, "{} was settled before it was done", message.id);
    }

    /// Carries out what the core asks for.
    fn collect(&mut self) {
        self.core.tick(self.now());
        let mut actions = Actions::default();
        self.core.take_actions(&mut actions);
        self.moves.append(&mut actions.moves);
        self.markers.append(&mut actions.markers);
        self.burials.append(&mut actions.burials);
        actions.settle.into_iter().chain(actions.settle_late).for_each(|token| self.settle(token));
        for Partition(partition) in actions.released {
            assert!(self.owned[partition as usize]);
            self.disown(partition);
            self.assign(partition);
        }
    }

    fn begin(&mut self) {
        while let Some(start) = self.core.start(self.now()) {
            let first = &start.batch[0].message;
            assert!(self.running.iter().all(|other| other.batch[0].message.key != first.key), "two of a key at once");
            assert_eq!(first.topic, topic(false));
            assert!(first.headers.is_empty());
            for delivery in &start.batch {
                assert_eq!(delivery.message.key, first.key);
            }
            // Earlier messages must be done, or be in the same batch.
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
            if start.given_up.is_some() {
                self.given_up.extend(&batch);
                self.running.push(start);
                continue;
            }
            for message in &batch {
                let (times, last) = self.begun.entry(*message).or_default();
                (*times, *last) = (*times + 1, self.now);
            }
            if let Some(killer) = batch.iter().find(|message| self.killers.contains(message)) {
                return self.crash(Some(*killer));
            }
            self.running.push(start);
        }
        assert!(self.core.work.running() <= 3);
        self.collect();
    }

    fn end(&mut self, which: usize, how: How) {
        if self.running.is_empty() {
            return;
        }
        let start = self.running.remove(which % self.running.len());
        let how = if start.given_up.is_some() { How::Dead } else { how };
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

    fn park(&mut self, succeeds: bool, is_stored: bool) {
        let moves = std::mem::take(&mut self.moves);
        for Move { message, .. } in moves.iter().filter(|_| is_stored) {
            let partition = partition_of(message.key.as_ref().unwrap(), PARTITIONS).0;
            self.logs.get_mut(&(true, partition)).unwrap().messages.push(Stored::new(message.clone()));
        }
        for Move { moved, .. } in moves.iter().filter(|_| succeeds) {
            self.settle(moved.token);
        }
        for Move { moved, .. } in moves {
            self.core.moved(moved, succeeds, self.now());
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
                self.logs.get_mut(&(true, marker.partition.0)).unwrap().messages.push(Stored::new(message));
                self.core.marker_confirmed(marker);
            } else {
                self.core.marker_failed(marker, self.now());
            }
        }
        self.collect();
    }

    pub(super) fn run(&mut self, step: Step) {
        match step {
            Step::Publish { key, kills } => {
                let bytes = format!("key-{key}");
                let number = self.published[key as usize];
                self.published[key as usize] += 1;
                if kills {
                    self.killers.insert((key, number));
                }
                let partition = partition_of(bytes.as_bytes(), PARTITIONS).0;
                let message = Message::new(topic(false), format!("{key}-{number}"), "").key(bytes);
                self.logs.get_mut(&(false, partition)).unwrap().messages.push(Stored::new(message));
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
            Step::Crash => self.crash(None),
            Step::Lose(_) => {}
        }
    }

    /// Loses the process, because of a message or for another reason.
    fn crash(&mut self, killer: Option<Numbered>) {
        let running = self.running.iter().filter(|start| start.given_up.is_none()).flat_map(|start| &start.batch);
        let running: BTreeSet<Numbered> = running.map(|delivery| identity(&delivery.message)).collect();
        let noted = self.noted_to_begin();
        let accused = |message: &Numbered| noted.get(message).copied().filter(|crashes| *crashes >= ACCUSED);
        if killer.is_some_and(|killer| accused(&killer).is_some()) {
            for (message, crashes) in running.iter().filter_map(|message| Some((message, accused(message)?))) {
                let ran = Duration::from_millis(self.now - self.begun[message].1);
                assert!(ran >= Trials::lasts(crashes), "{message:?} ran beside the trial of {killer:?}");
            }
        }
        for message in running.into_iter().chain(noted.into_keys()).collect::<BTreeSet<_>>() {
            *self.lost.entry(message).or_default() += 1;
        }
        self.seeds += 1;
        self.core = new_core(self.kind, self.seeds);
        self.running.clear();
        self.moves.clear();
        self.burials.clear();
        self.markers.clear();
        (0..PARTITIONS).for_each(|partition| self.disown(partition));
        (0..PARTITIONS).for_each(|partition| self.assign(partition));
    }

    /// The messages that count as begun once more if the process is lost, with the crashes that their notes tell.
    fn noted_to_begin(&self) -> BTreeMap<Numbered, u32> {
        let copies = self.logs.values().flat_map(|log| &log.messages).filter(|copy| !copy.settled);
        let seen = copies.filter(|copy| copy.delivered || self.kind.flags_old);
        let noted = seen.filter_map(|copy| {
            let note = std::str::from_utf8(copy.message.headers.get(SUSPECT)?).ok()?;
            Some((identity(&copy.message), note.strip_suffix(" begins")?.parse::<u32>().ok()?))
        });
        noted.fold(BTreeMap::new(), |mut all, (message, crashes)| {
            // Of several copies nobody knows which one runs.
            let least: &mut u32 = all.entry(message).or_insert(crashes);
            *least = crashes.min(*least);
            all
        })
    }

    fn is_over(&self) -> bool {
        let all: usize = self.published.iter().map(|count| *count as usize).sum();
        let left = self.logs.values().flat_map(|log| &log.messages).filter(|stored| !stored.settled);
        self.done.len() == all && left.filter(|stored| stored.message.headers.get(MARKER).is_none()).count() == 0
    }

    /// Lets everything succeed, until all is done.
    pub(super) fn finish(&mut self) {
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

    /// How often each message was done.
    pub(super) fn runs(&self) -> &BTreeMap<Numbered, u32> {
        &self.runs
    }

    /// The messages that end their process, and those that were given up.
    pub(super) fn killers(&self) -> (&BTreeSet<Numbered>, &BTreeSet<Numbered>) {
        (&self.killers, &self.given_up)
    }

    /// How often a message counted as begun when a process was lost.
    pub(super) fn lost(&self, message: Numbered) -> u32 {
        self.lost.get(&message).copied().unwrap_or_default()
    }

    /// How often a message was run, done or not.
    pub(super) fn begun(&self, message: Numbered) -> u32 {
        self.begun.get(&message).map_or(0, |(times, _)| *times)
    }

    /// Whether no lane is in use.
    pub(super) fn has_no_lane(&self) -> bool {
        self.core.lanes.is_empty() && self.core.lanes.iter().all(|lane| lane.is_free) && self.core.lanes.keys() == 0
    }
}

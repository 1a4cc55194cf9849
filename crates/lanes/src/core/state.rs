use std::time::Duration;

use partitura_broker::{Delivery, Partition};

use super::early::EarlyMessages;
use super::lane::{Entry, Lane};
use super::model::{Actions, Now, Settings};
use super::parked::ParkedMessages;
use super::partitions::Partitions;
use super::random::Random;
use super::schedule::Schedule;
use super::suspects::Suspects;
use super::table::LaneTable;
use super::work::Work;
use crate::meter::Held;

/// The state of the lanes of one consumer. Each part has its fields for itself.
#[derive(Debug)]
pub(crate) struct Core {
    pub(super) settings: Settings,
    pub(super) lanes: LaneTable,
    pub(super) schedule: Schedule,
    pub(super) early: EarlyMessages,
    pub(super) partitions: Partitions,
    pub(super) parked: ParkedMessages,
    pub(super) suspects: Suspects,
    pub(super) work: Work,
    pub(super) random: Random,
    pub(super) actions: Actions,
}

impl Core {
    pub(crate) fn new(settings: Settings) -> Self {
        let random = Random::new(settings.seed);
        let suspects = Suspects::new(settings.trials.clone());
        Self {
            settings,
            lanes: LaneTable::default(),
            schedule: Schedule::default(),
            early: EarlyMessages::default(),
            partitions: Partitions::default(),
            parked: ParkedMessages::default(),
            suspects,
            work: Work::default(),
            random,
            actions: Actions::default(),
        }
    }

    /// A message came.
    pub(crate) fn deliver(&mut self, delivery: Delivery, now: Now) {
        let partition = delivery.partition.0;
        if self.settings.assigned && !self.partitions.contains(partition) {
            tracing::warn!(partition, "ignoring a message of a partition that is not ours");
            return;
        }
        self.begin_term(partition, now);
        if !self.partitions.accepts(partition) {
            // It goes to the successor, as if it had never come.
            return;
        }
        let Some(entry) = self.unpack(delivery, now) else { return };
        match entry.delivery.message.not_before {
            Some(due) if due > now.wall => self.early.push(due, entry),
            _ => self.enqueue(entry, now),
        }
    }

    /// Time has passed: wakes lanes and messages that waited for it.
    pub(crate) fn tick(&mut self, now: Now) {
        while let Some(id) = self.schedule.pop_due(now.steady) {
            if let Some(lane) = self.lanes.find(id) {
                lane.timer = Duration::ZERO;
                self.schedule(id.index, now);
            }
        }
        while let Some(entry) = self.early.pop_due(now.wall) {
            self.enqueue(entry, now);
        }
        self.actions.markers.extend(self.partitions.due_markers(now.steady));
        self.sweep(now);
        self.tick_suspects(now);
    }

    /// How long nothing has to be done if nothing happens.
    pub(crate) fn idle_for(&self, now: Now) -> Option<Duration> {
        let moments =
            [self.schedule.next_timer(), self.partitions.next_marker(), self.next_sweep(), self.next_suspect(now)];
        let steady = moments.into_iter().flatten().min().map(|at| at.saturating_sub(now.steady));
        let early = self.early.next_due().map(|due| due.since(now.wall));
        steady.into_iter().chain(early).min()
    }

    /// Whether a message came too early and is held back.
    pub(crate) fn holds_early(&self) -> bool {
        !self.early.is_empty()
    }

    /// Adds the work that came up since the last time.
    pub(crate) fn take_actions(&mut self, into: &mut Actions) {
        into.append(&mut self.actions);
    }

    /// All partitions that are ours.
    pub(crate) fn owned(&self) -> Vec<Partition> {
        self.partitions.all()
    }

    /// Begins nothing new from now on.
    pub(crate) fn drain(&mut self) {
        self.work.drain();
    }

    /// Whether nothing is in memory.
    pub(crate) fn holds_nothing(&self) -> bool {
        self.lanes.is_empty() && self.early.is_empty()
    }

    /// How much is in memory.
    pub(crate) fn held(&self) -> Held {
        let in_lanes: usize = self.lanes.iter().map(Lane::len).sum();
        Held { backlog: in_lanes + self.early.len(), parked: self.parked.len() }
    }

    /// Whether nothing is under way.
    pub(crate) fn is_quiet(&self) -> bool {
        self.work.is_quiet()
    }

    /// An entry came to memory; see [`left_memory`](Self::left_memory).
    pub(super) fn came_to_memory(&mut self, entry: &Entry) {
        if entry.from_parking {
            self.parked.came(entry.delivery.message.size());
        }
    }

    pub(super) fn left_memory(&mut self, entry: &Entry) {
        if entry.from_parking {
            self.parked.left(entry.delivery.message.size());
        }
    }
}

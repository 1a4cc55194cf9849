//! The way of a message through its lane, up to the handler.

use super::lane::{Entry, LaneState};
use super::model::{LaneId, Now, Start};
use super::state::Core;
use super::suspicion::Suspicion;
use crate::Trials;

impl Core {
    /// Puts a message into its lane.
    pub(super) fn enqueue(&mut self, entry: Entry, now: Now) {
        let partition = entry.delivery.partition.0;
        if !self.partitions.accepts(partition) {
            // It fell due too late.
            return;
        }
        let index = match &entry.delivery.message.key {
            Some(key) if self.settings.ordered => self.lanes.lane_of(partition, key),
            _ => self.lanes.new_lane(partition),
        };
        self.came_to_memory(&entry);
        let lane = &mut self.lanes[index];
        match entry.place {
            Some(place) => {
                lane.awaits &= !entry.suspicion.noted;
                if self.partitions.is_learning(partition) {
                    lane.parked.insert(place);
                }
                lane.put(entry);
            }
            None => lane.main.push_back(entry),
        }
        self.settle_copies(index);
        self.park_if_too_many(index, now);
        self.schedule(index, now);
        self.tidy(index, now);
    }

    /// Queues a lane if it can run, or sets its timer.
    pub(super) fn schedule(&mut self, index: u32, now: Now) {
        let id = self.lanes.id(index);
        let lane = &mut self.lanes[index];
        if lane.moving > 0 || lane.stale {
            return;
        }
        if lane.state == LaneState::Queued && lane.front().is_some_and(|front| front.suspicion.noted) {
            // It waited for its head to be put back, and a copy with the note came first.
            self.schedule.queue_first(id);
        }
        if lane.state != LaneState::Idle {
            return;
        }
        let Some(not_before) = lane.front().map(|front| front.not_before) else { return };
        if not_before > now.steady {
            if lane.timer != not_before {
                lane.timer = not_before;
                self.schedule.wake_at(not_before, id);
            }
            return;
        }
        let (partition, dead) = (lane.partition, lane.death.is_some());
        // A dead letter ends what was begun: a hand-over waits for it.
        if dead && self.partitions.contains(partition) {
            self.bury(index);
        } else if !dead && self.partitions.is_open(partition) {
            let lane = &mut self.lanes[index];
            lane.state = LaneState::Queued;
            // Its process may be lost before it begins, which would count against it.
            if lane.front().is_some_and(|front| front.suspicion.noted) {
                self.schedule.queue_first(id);
            } else {
                self.schedule.queue(id);
            }
        }
    }

    /// Goes on with a lane after something of it came to its end; removes it if there is nothing left.
    pub(super) fn tidy(&mut self, index: u32, now: Now) {
        let lane = &mut self.lanes[index];
        if lane.stale && !lane.is_busy() {
            lane.stale = false;
            self.schedule(index, now);
        }
        let lane = &self.lanes[index];
        if lane.is_over() && !lane.is_free {
            self.lanes.remove(index);
        }
    }

    /// A batch to run now, if there is one and room for it. While the core drains, only messages with a note that they
    /// begin: elsewhere that would count as a crash.
    pub(crate) fn start(&mut self, now: Now) -> Option<Start> {
        self.put_back_suspects(now);
        while self.work.has_place(self.settings.concurrency) {
            let Some(id) = self.schedule.next_ready() else { break };
            let Some(Suspicion { noted, .. }) = self.waiting_head(id) else { continue };
            if self.work.is_draining() && !noted {
                continue;
            }
            if !self.has_room_for(id) {
                self.schedule.queue_first(id);
                break;
            }
            if self.may_run(id, now) {
                return self.begin(id);
            }
        }
        self.begin_trial(now);
        None
    }

    fn begin(&mut self, id: LaneId) -> Option<Start> {
        let lane = &mut self.lanes[id.index];
        lane.take(self.settings.batch);
        let batch = lane.batch()?;
        lane.state = LaneState::Running;
        let Some(Entry { delivery, suspicion, .. }) = &lane.current else { return None };
        if suspicion.noted {
            self.suspects.begins(&delivery.message.id);
        }
        let crashes = suspicion.crashes;
        let given_up = self.settings.is_given_up(crashes).then(|| Trials::reason(crashes));
        let partition = lane.partition;
        self.work.begin_run();
        self.begin_work(partition);
        Some(Start { lane: id, batch, given_up })
    }
}

use std::cmp::Reverse;
use std::time::Duration;

use super::{Core, Entry, Lane, LaneId, LaneState, Now};

impl Core {
    /// Puts a message into its lane.
    pub(super) fn enqueue(&mut self, entry: Entry, now: Now) {
        let partition = entry.delivery.partition.0;
        if !self.takes_up(partition) {
            // It fell due too late.
            return;
        }
        let index = match &entry.delivery.message.key {
            Some(key) if self.settings.ordered => {
                let key = (partition, key.clone());
                match self.index.get(&key) {
                    Some(index) => *index,
                    None => {
                        let index = self.new_lane(partition);
                        self.lanes[index as usize].key = Some(key.1.clone());
                        self.index.insert(key, index);
                        index
                    }
                }
            }
            _ => self.new_lane(partition),
        };
        self.came_to_hand(&entry);
        match entry.place {
            Some(place) => {
                let learning = self.is_learning(partition);
                let lane = &mut self.lanes[index as usize];
                if learning {
                    lane.parked.insert(place);
                }
                lane.put(entry);
            }
            None => self.lanes[index as usize].main.push_back(entry),
        }
        self.settle_copies(index);
        self.park_if_too_many(index, now);
        self.schedule(index, now);
        self.tidy(index, now);
    }

    /// Queues a lane if it can run, or sets its timer.
    pub(super) fn schedule(&mut self, index: u32, now: Now) {
        let lane = &mut self.lanes[index as usize];
        if lane.state != LaneState::Idle || lane.moving > 0 || lane.stale {
            return;
        }
        let id = LaneId { index, generation: lane.generation };
        let Some(not_before) = lane.front().map(|front| front.not_before) else { return };
        if not_before > now.steady {
            if lane.timer != not_before {
                lane.timer = not_before;
                self.timers.push(Reverse((not_before, id)));
            }
            return;
        }
        let (partition, dead) = (lane.partition, lane.death.is_some());
        // A dead letter ends what was begun: a hand-over waits for it.
        if dead && self.is_ours(partition) {
            self.bury(index);
        } else if !dead && self.is_open(partition) {
            self.lanes[index as usize].state = LaneState::Queued;
            self.ready.push_back(id);
        }
    }

    /// Goes on with a lane after something of it came to its end; removes it if there is nothing left.
    pub(super) fn tidy(&mut self, index: u32, now: Now) {
        let lane = &mut self.lanes[index as usize];
        if lane.stale && !lane.is_busy() {
            lane.stale = false;
            self.schedule(index, now);
        }
        let lane = &mut self.lanes[index as usize];
        if !lane.is_over() || lane.is_free {
            return;
        }
        if let Some(key) = lane.key.take() {
            self.index.remove(&(lane.partition, key));
        }
        // The buffers are kept for the next lane, unless they have become large.
        const KEEP: usize = 8;
        lane.main.shrink_to(KEEP);
        lane.hand.shrink_to(KEEP);
        lane.generation = lane.generation.wrapping_add(1);
        lane.singly = 0;
        lane.timer = Duration::ZERO;
        lane.is_free = true;
        self.free.push(index);
    }

    pub(super) fn find(&mut self, id: LaneId) -> Option<&mut Lane> {
        self.lanes.get_mut(id.index as usize).filter(|lane| lane.generation == id.generation)
    }

    fn new_lane(&mut self, partition: u32) -> u32 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.lanes.push(Lane::default());
            // Bounded by credit, and by the memory that the lanes themselves need.
            (self.lanes.len() - 1) as u32
        });
        let lane = &mut self.lanes[index as usize];
        lane.partition = partition;
        lane.is_free = false;
        index
    }
}

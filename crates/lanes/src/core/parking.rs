//! Which messages go to the parking topic, and when.

use super::lane::{Entry, Lane, LaneState};
use super::model::{Move, Moved, Now, Parking};
use super::state::Core;
use super::suspecting::PAUSE;

impl Core {
    /// A message was confirmed by the parking topic, and its old copy settled and flushed; or it was not confirmed.
    pub(crate) fn moved(&mut self, Moved { lane: id, token }: Moved, confirmed: bool, now: Now) {
        self.work.end_move();
        let Some(lane) = self.lanes.find(id) else { return };
        lane.moving = lane.moving.saturating_sub(1);
        if lane.stale {
            return self.tidy(id.index, now);
        }
        let partition = lane.partition;
        if let Some(at) = lane.hand.iter().position(|entry| entry.delivery.token == token) {
            if confirmed {
                if let Some(entry) = lane.hand.remove(at) {
                    // Without a key there is no order: it comes back as one of its own.
                    if let (None, Some(place)) = (&lane.key, entry.place) {
                        lane.parked.remove(place);
                    }
                    self.left_memory(&entry);
                }
            } else {
                let entry = &mut lane.hand[at];
                entry.moving = false;
                // It is not tried again at once, but when the next bound has passed.
                entry.since = now.steady;
                if std::mem::take(&mut entry.suspicion.noted) {
                    entry.not_before = now.steady + PAUSE;
                    lane.awaits = false;
                    let message = entry.delivery.message.id.clone();
                    self.not_put_back(&message);
                }
            }
        }
        self.settle_copies(id.index);
        self.schedule(id.index, now);
        self.tidy(id.index, now);
        self.end_work(partition);
    }

    /// Parks the messages that wait behind a failing one, if there are too many.
    pub(super) fn park_if_too_many(&mut self, index: u32, now: Now) {
        let Some(parking) = &self.settings.parking else { return };
        let lane = &self.lanes[index];
        if lane.main.len() > parking.behind && lane.is_failing() {
            self.park(index, false, now);
        }
    }

    /// Parks the messages of a lane whose run has ended, if they were held too long meanwhile. A lane that always runs
    /// has its head with the handler whenever [`sweep`](Self::sweep) looks.
    pub(super) fn park_if_held(&mut self, index: u32, now: Now) {
        let Some(&Parking { hold, .. }) = self.parking_at_work() else { return };
        let lane = &self.lanes[index];
        let firsts = [lane.current.as_ref(), lane.hand.front(), lane.main.front()];
        if firsts.into_iter().flatten().any(|entry| entry.is_held(hold, now)) {
            self.park(index, true, now);
        }
    }

    /// Parks messages that are held too long, and makes room.
    pub(super) fn sweep(&mut self, now: Now) {
        let Some(parking) = self.parking_at_work() else { return };
        let hold = parking.hold;
        if self.parked.begin_sweep(hold, now) {
            for index in self.lanes.indices() {
                let lane = &self.lanes[index];
                let held = |entry: &Entry| entry.is_held(hold, now);
                let idle = matches!(lane.state, LaneState::Idle | LaneState::Queued);
                let current = lane.current.as_ref().filter(|_| idle);
                if current.into_iter().chain(&lane.hand).chain(lane.main.front()).any(held) {
                    self.park(index, true, now);
                }
            }
        }
        if self.has_to_make_room() {
            self.make_room(now);
        }
    }

    /// The moment of the next sweep, or of the next round of making room.
    pub(super) fn next_sweep(&self) -> Option<std::time::Duration> {
        self.parking_at_work()?;
        let sweep = (!self.lanes.is_empty()).then(|| self.parked.next_sweep());
        let round = self.has_to_make_room().then(|| self.parked.next_round());
        sweep.into_iter().chain(round).min()
    }

    fn parking_at_work(&self) -> Option<&Parking> {
        self.settings.parking.as_ref().filter(|_| !self.work.is_draining())
    }

    fn has_to_make_room(&self) -> bool {
        let full = |parking| self.parked.is_full(parking);
        !self.work.is_moving() && self.settings.parking.as_ref().is_some_and(full)
    }

    /// Puts parked messages that cannot run now back to the tail of their topic, so that those behind them come.
    fn make_room(&mut self, now: Now) {
        let learning = self.partitions.is_learning_any();
        if !learning && !self.parked.may_make_room(now) && !self.lanes.iter().any(Lane::is_stuck) {
            return;
        }
        self.parked.begin_round(now);
        for index in self.lanes.indices() {
            let lane = &self.lanes[index];
            let waits = lane.state == LaneState::Idle && lane.current.is_some();
            if lane.stale || !(lane.is_stuck() || waits || self.partitions.learns_behind_marker(lane.partition)) {
                continue;
            }
            let takes_room = waits && lane.current.as_ref().is_some_and(|current| current.from_parking);
            if learning && takes_room {
                // It has a place: it came from there.
                self.lanes[index].put_back(0);
            }
            self.move_hand(index, |entry| entry.from_parking, false, now);
        }
    }

    /// Settles copies of messages that are done, at the head of those in memory.
    pub(super) fn settle_copies(&mut self, index: u32) {
        for entry in self.lanes[index].take_copies() {
            self.actions.settle.push(entry.delivery.token);
            self.left_memory(&entry);
        }
    }

    /// Parks the messages from the topic, and with `all` the head and the parked messages in memory as well.
    fn park(&mut self, index: u32, all: bool, now: Now) {
        let lane = &self.lanes[index];
        if lane.stale || lane.moving > 0 || !self.partitions.is_open(lane.partition) || self.work.is_draining() {
            return;
        }
        let idle = matches!(lane.state, LaneState::Idle | LaneState::Queued);
        let in_main = lane.current.as_ref().is_some_and(|current| !current.from_parking);
        // The first must be parked first: a successor runs what is parked before what is not.
        if in_main && !idle {
            return;
        }
        let fresh = self.parked.fresh_place(self.partitions.term(lane.partition), now);
        let lane = &mut self.lanes[index];
        if idle && (all || in_main) {
            lane.state = LaneState::Idle;
            lane.put_back(fresh);
        }
        lane.put_behind(fresh);
        self.parked.gave(lane.parked.last().unwrap_or_default());
        self.move_hand(index, |entry| all || !entry.from_parking, false, now);
    }

    /// Publishes messages in memory to the parking topic. With `begins` their copies run when they come.
    pub(super) fn move_hand(&mut self, index: u32, chosen: impl Fn(&Entry) -> bool, begins: bool, now: Now) {
        let Some(parking) = &self.settings.parking else { return };
        let (topic, id) = (parking.topic.clone(), self.lanes.id(index));
        let lane = &mut self.lanes[index];
        let partition = lane.partition;
        let mut hand = std::mem::take(&mut lane.hand);
        for entry in hand.iter_mut().filter(|entry| !entry.moving && chosen(entry)) {
            entry.moving = true;
            entry.suspicion.noted = begins;
            let message = self.pack(entry, &topic, now);
            self.actions.moves.push(Move { moved: Moved { lane: id, token: entry.delivery.token }, message });
            self.lanes[index].moving += 1;
            self.work.begin_move();
            self.begin_work(partition);
        }
        self.lanes[index].hand = hand;
    }
}

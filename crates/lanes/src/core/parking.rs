use std::time::Duration;

use partitura_broker::AckToken;

use super::{Core, Entry, Lane, LaneId, LaneState, Move, Now};

/// How long at least between two rounds of making room, while nothing is stuck.
const PACE: Duration = Duration::from_secs(1);

/// What goes to the parking topic, and what is at hand from there.
#[derive(Debug, Default)]
pub(super) struct Moves {
    queue: Vec<Move>,
    /// Queued, or being published.
    pub(super) under_way: usize,
    /// Parked messages at hand.
    messages: usize,
    bytes: usize,
    /// The highest place that was given.
    last_place: u64,
    next_sweep: Duration,
    next_round: Duration,
}

impl Moves {
    pub(super) fn take(&mut self) -> Vec<Move> {
        std::mem::take(&mut self.queue)
    }
}

impl Core {
    /// A message was confirmed by the parking topic, and its old copy settled and flushed; or it was not confirmed.
    pub(crate) fn moved(&mut self, id: LaneId, token: AckToken, confirmed: bool, now: Now) {
        self.moves.under_way = self.moves.under_way.saturating_sub(1);
        let Some(lane) = self.find(id) else { return };
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
                    self.left_hand(&entry);
                }
            } else {
                lane.hand[at].moving = false;
                // It is not tried again at once, but when the next bound has passed.
                lane.hand[at].since = now.steady;
            }
        }
        self.settle_copies(id.index);
        self.schedule(id.index, now);
        self.tidy(id.index, now);
        self.no_longer_busy(partition);
    }

    /// Parks what waits behind a failing message, if it is too much.
    pub(super) fn park_if_too_many(&mut self, index: u32, now: Now) {
        let Some(parking) = &self.settings.parking else { return };
        let lane = &self.lanes[index as usize];
        if lane.main.len() > parking.behind && lane.is_failing() {
            self.park(index, false, now);
        }
    }

    /// Looks for what is held too long, and makes room.
    pub(super) fn sweep(&mut self, now: Now) {
        let Some(parking) = self.settings.parking.as_ref().filter(|_| !self.draining) else { return };
        let hold = parking.hold;
        if now.steady >= self.moves.next_sweep {
            self.moves.next_sweep = now.steady + interval(hold);
            for index in 0..self.lanes.len() {
                let lane = &self.lanes[index];
                let held = |entry: &Entry| now.steady.saturating_sub(entry.since) >= hold && !entry.moving;
                let idle = matches!(lane.state, LaneState::Idle | LaneState::Queued);
                let current = lane.current.as_ref().filter(|_| idle);
                if current.into_iter().chain(&lane.hand).chain(lane.main.front()).any(held) {
                    self.park(index as u32, true, now);
                }
            }
        }
        if self.is_full() && self.moves.under_way == 0 {
            self.make_room(now);
        }
    }

    /// Puts parked messages that cannot run now back to the tail of their topic, so that those behind them come.
    fn make_room(&mut self, now: Now) {
        let learning = self.is_learning_any();
        if !learning && now.steady < self.moves.next_round && !self.lanes.iter().any(Lane::is_stuck) {
            return;
        }
        self.moves.next_round = now.steady + PACE;
        for index in 0..self.lanes.len() {
            let lane = &self.lanes[index];
            let waits = lane.state == LaneState::Idle && lane.current.is_some();
            if lane.stale || !(lane.is_stuck() || waits || self.learns_behind_marker(lane.partition)) {
                continue;
            }
            let takes_room = waits && lane.current.as_ref().is_some_and(|current| current.from_parking);
            if learning && takes_room {
                // It has a place: it came from there.
                self.lanes[index].put_back(0);
            }
            self.move_hand(index as u32, |entry| entry.from_parking, now);
        }
    }

    pub(super) fn next_sweep(&self, now: Now) -> Option<Duration> {
        if self.settings.parking.is_none() || self.draining {
            return None;
        }
        let sweep = (self.free.len() < self.lanes.len()).then_some(self.moves.next_sweep);
        let round = (self.is_full() && self.moves.under_way == 0).then_some(self.moves.next_round);
        let at = sweep.into_iter().chain(round).min()?;
        Some(at.saturating_sub(now.steady))
    }

    /// Settles copies of what is done, at the head of what is at hand.
    pub(super) fn settle_copies(&mut self, index: u32) {
        let lane = &mut self.lanes[index as usize];
        if lane.hand.is_empty() {
            return;
        }
        let current = lane.current.as_ref().and_then(|current| current.place);
        let (parked, mut copies) = (&lane.parked, Vec::new());
        lane.hand.retain(|entry| {
            let place = entry.place.unwrap_or_default();
            let done = !entry.moving && !parked.contains(place) && current != Some(place);
            if done {
                copies.push((entry.delivery.token, entry.from_parking, entry.delivery.message.size()));
            }
            !done
        });
        for (token, from_parking, size) in copies {
            self.settle.push(token);
            self.left(from_parking, size);
        }
    }

    pub(super) fn came_to_hand(&mut self, entry: &Entry) {
        if entry.from_parking {
            self.moves.messages += 1;
            self.moves.bytes += entry.delivery.message.size();
        }
    }

    pub(super) fn left_hand(&mut self, entry: &Entry) {
        if entry.from_parking {
            self.left(true, entry.delivery.message.size());
        }
    }

    fn left(&mut self, from_parking: bool, size: usize) {
        if from_parking {
            self.moves.messages = self.moves.messages.saturating_sub(1);
            self.moves.bytes = self.moves.bytes.saturating_sub(size);
        }
    }

    fn is_full(&self) -> bool {
        self.settings.parking.as_ref().is_some_and(|parking| {
            self.moves.messages >= parking.full_messages || self.moves.bytes >= parking.full_bytes
        })
    }

    /// Parks what came from the topic, and with `all` the head and what is at hand of the parked as well.
    fn park(&mut self, index: u32, all: bool, now: Now) {
        let lane = &self.lanes[index as usize];
        if lane.stale || lane.moving > 0 || !self.is_open(lane.partition) || self.draining {
            return;
        }
        let idle = matches!(lane.state, LaneState::Idle | LaneState::Queued);
        let in_main = lane.current.as_ref().is_some_and(|current| !current.from_parking);
        // What comes first must be parked first: a successor runs what is parked before what is not.
        if in_main && !idle {
            return;
        }
        let fresh = self.fresh_place(lane.partition, now);
        let lane = &mut self.lanes[index as usize];
        if idle && (all || in_main) {
            lane.state = LaneState::Idle;
            lane.put_back(fresh);
        }
        lane.put_behind(fresh);
        let last = lane.parked.last().unwrap_or_default();
        self.moves.last_place = self.moves.last_place.max(last);
        let chosen = |entry: &Entry| all || !entry.from_parking;
        self.move_hand(index, chosen, now);
    }

    /// A place that was never given: not by us, and for all practical purposes not by another owner at the same time.
    fn fresh_place(&self, partition: u32, now: Now) -> u64 {
        const PER_MILLISECOND: u64 = 1_000_000;
        let base = now.wall.as_millis().saturating_mul(PER_MILLISECOND);
        let fresh = base.saturating_add(self.term(partition) % PER_MILLISECOND);
        fresh.max(self.moves.last_place.saturating_add(1))
    }

    fn move_hand(&mut self, index: u32, chosen: impl Fn(&Entry) -> bool, now: Now) {
        let Some(parking) = &self.settings.parking else { return };
        let topic = parking.topic.clone();
        let lane = &mut self.lanes[index as usize];
        let id = LaneId { index, generation: lane.generation };
        let mut hand = std::mem::take(&mut lane.hand);
        let mut moving = 0;
        for entry in hand.iter_mut().filter(|entry| !entry.moving && chosen(entry)) {
            entry.moving = true;
            moving += 1;
            let message = self.pack(entry, &topic, now);
            self.moves.queue.push(Move { lane: id, token: entry.delivery.token, message });
        }
        self.moves.under_way += moving;
        let lane = &mut self.lanes[index as usize];
        lane.hand = hand;
        lane.moving += moving;
        let partition = lane.partition;
        (0..moving).for_each(|_| self.busy(partition));
    }
}

fn interval(hold: Duration) -> Duration {
    (hold / 8).clamp(Duration::from_millis(5), Duration::from_secs(10))
}

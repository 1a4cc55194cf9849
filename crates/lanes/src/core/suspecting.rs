//! Suspects: messages that may have ended a process that ran them.
//!
//! A redelivered message may be the reason why its process was lost. Before it runs it is *put back*: published to the
//! parking topic with the note that it begins, and its old copy is settled. It runs when the new copy comes. If that
//! copy is redelivered in its turn, the process was lost while the message ran: that is one crash more.
//!
//! A message is put back only when it would be run, and only a few at a time. Messages that merely wait when a process
//! is lost are therefore not counted. With two crashes a message is accused, and accused messages run one at a time
//! in the whole [process](crate::Trials). With the number of crashes that is set it is given up.

use std::time::Duration;

use partitura_broker::{Delivery, MessageId};

use super::lane::LaneState;
use super::model::{LaneId, Now};
use super::state::Core;
use super::suspects::{Suspects, Trial};
use super::suspicion::{Note, Suspicion};
use crate::Trials;

/// How long a message that was put back takes up its place among those on their way. Another consumer may get it.
const RETURN: Duration = Duration::from_secs(1);
/// The pause before it is tried again to put a message back.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

impl Core {
    /// The suspicion of a message that came. `redelivered` is the broker's flag.
    pub(super) fn suspicion(&mut self, delivery: &Delivery, note: Option<Note>, redelivered: bool) -> Suspicion {
        if self.settings.crashes == 0 || self.settings.parking.is_none() || (note.is_none() && !redelivered) {
            return Suspicion::default();
        }
        let mut suspicion = Suspicion::new(note, redelivered);
        if note.is_none() && !self.partitions.may_have_begun(delivery.partition.0, self.settings.most_begun) {
            return Suspicion::default();
        }
        let to_begin = Suspicion::new(note, false);
        if to_begin.noted {
            self.suspects.on_their_way.pop_front();
            if redelivered && self.suspects.has_begun(&delivery.message.id) {
                // It began in this process, which has not ended: it was lost in another way.
                suspicion = to_begin;
            }
        }
        suspicion
    }

    /// Whether the lane may take up a place among the running. One is kept for the message on trial, which is about to
    /// come back.
    pub(super) fn has_room_for(&self, id: LaneId) -> bool {
        let Some(Trial { message, runs: false, .. }) = &self.suspects.on_trial else { return true };
        let is_tried = self.lanes[id.index].front().is_some_and(|front| front.delivery.message.id == *message);
        is_tried || self.work.has_place(self.settings.concurrency - 1)
    }

    /// Whether the queued lane runs now. If not, it waits until its head has been put back, or may be on trial.
    pub(super) fn may_run(&mut self, id: LaneId, now: Now) -> bool {
        let lane = &self.lanes[id.index];
        let Some(front) = lane.front() else { return false };
        let suspicion = front.suspicion;
        if suspicion.is_none() || self.settings.is_given_up(suspicion.crashes) {
            return true;
        }
        if !suspicion.is_accused() {
            if !suspicion.noted {
                self.suspects.waiting.push_back(id);
                self.put_back_waiting(now);
            }
            return suspicion.noted;
        }
        match &mut self.suspects.on_trial {
            Some(trial) if suspicion.noted && trial.message == front.delivery.message.id => {
                trial.until = now.steady + Trials::lasts(suspicion.crashes);
                trial.runs = true;
                true
            }
            _ => {
                self.suspects.accused.push(id);
                false
            }
        }
    }

    /// Puts back the suspects that would be run now, and begins the next trial.
    pub(super) fn put_back_suspects(&mut self, now: Now) {
        if self.work.has_room(self.settings.concurrency) {
            self.put_back_waiting(now);
            self.begin_trial(now);
        }
    }

    fn put_back_waiting(&mut self, now: Now) {
        while self.suspects.on_their_way.len() < self.settings.concurrency {
            let Some(id) = self.suspects.waiting.pop_front() else { break };
            match self.waiting_head(id) {
                // Its copy with the note came while the lane waited.
                Some(Suspicion { noted: true, .. }) => self.schedule.queue_first(id),
                Some(_) => self.put_back_noted(id, now),
                None => {}
            }
        }
    }

    /// Begins the next trial, unless one goes on.
    pub(super) fn begin_trial(&mut self, now: Now) {
        let has_room = self.work.has_room(self.settings.concurrency);
        if !has_room || self.suspects.on_trial.is_some() || self.suspects.accused.is_empty() {
            return;
        }
        let Some((id, message, noted)) = self.next_accused() else { return };
        if !self.suspects.trials.begin() {
            return;
        }
        self.suspects.accused.retain(|accused| *accused != id);
        self.suspects.on_trial = Some(Trial { message, until: now.steady + RETURN, runs: false });
        if noted {
            self.schedule.queue_first(id);
        } else {
            self.put_back_noted(id, now);
        }
    }

    /// The accused with the fewest crashes: the innocent are soon done, and the one to blame is left.
    fn next_accused(&mut self) -> Option<(LaneId, MessageId, bool)> {
        let mut accused = std::mem::take(&mut self.suspects.accused);
        accused.retain(|id| self.waiting_head(*id).is_some());
        let head = |id: &LaneId| self.lanes[id.index].front();
        let crashes = |id: &&LaneId| head(id).map_or(u32::MAX, |front| front.suspicion.crashes);
        let next = accused.iter().min_by_key(crashes).copied();
        let next = next.and_then(|id| head(&id).map(|f| (id, f.delivery.message.id.clone(), f.suspicion.noted)));
        self.suspects.accused = accused;
        next
    }

    /// The suspicion of the head of a lane that is queued and can run. A queued lane that cannot is idle again.
    pub(super) fn waiting_head(&mut self, id: LaneId) -> Option<Suspicion> {
        let lane = self.lanes.find(id).filter(|lane| lane.state == LaneState::Queued)?;
        let partition = lane.partition;
        let open = self.partitions.is_open(partition);
        let lane = &mut self.lanes[id.index];
        let head = lane.front().filter(|_| open && lane.moving == 0).map(|front| front.suspicion);
        if head.is_none() {
            lane.state = LaneState::Idle;
        }
        head
    }

    /// Publishes the head of a lane to the parking topic, with the note that it begins when it comes back.
    fn put_back_noted(&mut self, id: LaneId, now: Now) {
        let index = id.index;
        let fresh = self.parked.fresh_place(self.partitions.term(self.lanes[index].partition), now);
        let lane = &mut self.lanes[index];
        lane.state = LaneState::Idle;
        lane.take(1);
        let Some(current) = &lane.current else { return };
        let token = current.delivery.token;
        lane.put_back(fresh);
        lane.awaits = true;
        self.parked.gave(lane.parked.first().unwrap_or_default());
        self.suspects.on_their_way.push_back(now.steady + RETURN);
        self.move_hand(index, |entry| entry.delivery.token == token, true, now);
    }

    /// Takes back the note that the head of a lane begins: it has run, and waits to be run again. If the process is
    /// lost meanwhile, that is no crash of this message.
    pub(super) fn take_back_note(&mut self, index: u32, now: Now) {
        let lane = &self.lanes[index];
        let (partition, Some(current), None) = (lane.partition, &lane.current, &lane.death) else { return };
        if !current.suspicion.noted || self.work.is_draining() || !self.partitions.is_open(partition) {
            return;
        }
        let token = current.delivery.token;
        let fresh = self.parked.fresh_place(self.partitions.term(partition), now);
        let lane = &mut self.lanes[index];
        lane.put_back(fresh);
        self.parked.gave(lane.parked.first().unwrap_or_default());
        self.move_hand(index, |entry| entry.delivery.token == token, false, now);
    }

    /// A message could not be put back.
    pub(super) fn not_put_back(&mut self, message: &MessageId) {
        self.suspects.on_their_way.pop_front();
        if self.suspects.is_on_trial(message) {
            self.suspects.end_trial();
        }
    }

    /// The head of a lane has run, and the process is still there.
    pub(super) fn survived(&mut self, index: u32) {
        let current = self.lanes[index].current.as_ref();
        if current.is_some_and(|current| self.suspects.is_on_trial(&current.delivery.message.id)) {
            self.suspects.end_trial();
        }
    }

    /// Ends what has taken long enough.
    pub(super) fn tick_suspects(&mut self, now: Now) {
        let Suspects { on_their_way, on_trial, .. } = &mut self.suspects;
        while on_their_way.front().is_some_and(|until| *until <= now.steady) {
            on_their_way.pop_front();
        }
        if on_trial.as_ref().is_some_and(|trial| trial.until <= now.steady) {
            self.suspects.end_trial();
        }
    }

    /// The moment at which suspects are looked at next.
    pub(super) fn next_suspect(&self, now: Now) -> Option<Duration> {
        let Suspects { on_their_way, on_trial, accused, .. } = &self.suspects;
        let waits = on_trial.is_none() && !accused.is_empty() && !self.work.is_draining();
        let until = on_their_way.front().copied().into_iter().chain(on_trial.as_ref().map(|trial| trial.until));
        until.chain(waits.then_some(now.steady + Trials::LOOK)).min()
    }
}

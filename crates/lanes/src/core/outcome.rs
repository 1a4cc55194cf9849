use std::time::Duration;

use super::lane::LaneState;
use super::model::{Burial, Death, LaneId, Now};
use super::state::Core;
use super::suspicion::Suspicion;
use crate::Outcome;

impl Core {
    /// A batch has come to its end.
    pub(crate) fn finished(&mut self, id: LaneId, outcome: Outcome, now: Now) {
        self.work.end_run();
        let Some(lane) = self.lanes.find(id) else { return };
        lane.state = LaneState::Idle;
        self.survived(id.index);
        let lane = &mut self.lanes[id.index];
        if lane.stale {
            return self.tidy(id.index, now);
        }
        let (partition, many) = (lane.partition, !lane.more.is_empty());
        match outcome {
            Outcome::Done => self.complete(id.index, true),
            Outcome::Settled | Outcome::Lost => self.complete(id.index, false),
            Outcome::Retry { after, .. } if many => {
                lane.break_up();
                if let (Some(after), Some(first)) = (after, lane.main.front_mut()) {
                    first.not_before = now.steady.saturating_add(after);
                }
            }
            Outcome::Dead { .. } if many => lane.break_up(),
            Outcome::Retry { reason, after } => {
                self.failed(id.index, reason, after, now);
                self.take_back_note(id.index, now);
            }
            Outcome::Dead { reason, error } => {
                lane.death = Some(Death { reason, error });
                if let Some(current) = &mut lane.current {
                    current.attempts = current.attempts.saturating_add(1);
                }
            }
        }
        self.park_if_too_many(id.index, now);
        self.park_if_held(id.index, now);
        self.schedule(id.index, now);
        self.tidy(id.index, now);
        self.end_work(partition);
    }

    /// A dead letter was confirmed, or was not.
    pub(crate) fn buried(&mut self, id: LaneId, confirmed: bool, now: Now) {
        const PAUSE: Duration = Duration::from_secs(1);
        self.work.end_burial();
        let Some(lane) = self.lanes.find(id) else { return };
        lane.state = LaneState::Idle;
        if lane.stale {
            return self.tidy(id.index, now);
        }
        let partition = lane.partition;
        if confirmed {
            lane.death = None;
            self.complete(id.index, true);
        } else if let Some(current) = &mut lane.current {
            current.not_before = now.steady + PAUSE;
        }
        self.schedule(id.index, now);
        self.tidy(id.index, now);
        self.end_work(partition);
    }

    /// Begins to publish the dead letter of the head.
    pub(super) fn bury(&mut self, index: u32) {
        let id = self.lanes.id(index);
        let lane = &mut self.lanes[index];
        let (Some(current), Some(death)) = (&lane.current, &lane.death) else { return };
        let Suspicion { crashes, .. } = current.suspicion;
        // To give a message up is no run of it. Of a message that was run, the first crash is not certain.
        let crashes = if self.settings.is_given_up(crashes) { crashes - 1 } else { crashes.saturating_sub(1) };
        let attempts = current.attempts.saturating_add(crashes);
        let burial = Burial { lane: id, delivery: current.delivery.clone(), attempts, death: death.clone() };
        lane.state = LaneState::Burying;
        let partition = lane.partition;
        self.actions.burials.push(burial);
        self.work.begin_burial();
        self.begin_work(partition);
    }

    /// The messages that ran are done.
    fn complete(&mut self, index: u32, settle: bool) {
        let lane = &mut self.lanes[index];
        let more = std::mem::take(&mut lane.more);
        let current = lane.current.take();
        for entry in current.into_iter().chain(more) {
            if settle {
                self.actions.settle.push(entry.delivery.token);
            }
            if let Some(place) = entry.place {
                self.lanes[index].parked.remove(place);
            }
            self.left_memory(&entry);
        }
        self.settle_copies(index);
    }

    fn failed(&mut self, index: u32, reason: String, after: Option<Duration>, now: Now) {
        let (retry, random) = (self.settings.retry, self.random.fraction());
        let lane = &mut self.lanes[index];
        let Some(current) = &mut lane.current else { return };
        current.attempts = current.attempts.saturating_add(1);
        tracing::debug!(id = %current.delivery.message.id, attempt = current.attempts, reason, "failed");
        match retry.delay(current.attempts, random) {
            Some(wait) => current.not_before = now.steady.saturating_add(after.unwrap_or(wait)),
            None => {
                let text = format!("gave up after {} attempts", current.attempts);
                lane.death = Some(Death { reason: text, error: Some(reason) });
            }
        }
    }
}

use std::time::Duration;

use super::{Burial, Core, Death, LaneId, LaneState, Now};
use crate::Outcome;

impl Core {
    /// A batch has come to its end.
    pub(crate) fn finished(&mut self, id: LaneId, outcome: Outcome, now: Now) {
        self.running = self.running.saturating_sub(1);
        let Some(lane) = self.find(id) else { return };
        lane.state = LaneState::Idle;
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
            Outcome::Retry { reason, after } => self.failed(id.index, reason, after, now),
            Outcome::Dead { reason, error } => {
                lane.death = Some(Death { reason, error });
                if let Some(current) = &mut lane.current {
                    current.attempts = current.attempts.saturating_add(1);
                }
            }
        }
        self.park_if_too_many(id.index, now);
        self.schedule(id.index, now);
        self.tidy(id.index, now);
        self.no_longer_busy(partition);
    }

    /// A dead letter was confirmed, or was not.
    pub(crate) fn buried(&mut self, id: LaneId, confirmed: bool, now: Now) {
        const PAUSE: Duration = Duration::from_secs(1);
        self.burying = self.burying.saturating_sub(1);
        let Some(lane) = self.find(id) else { return };
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
        self.no_longer_busy(partition);
    }

    /// Begins to publish the dead letter of the head.
    pub(super) fn bury(&mut self, index: u32) {
        let lane = &mut self.lanes[index as usize];
        let (Some(current), Some(death)) = (&lane.current, &lane.death) else { return };
        let id = LaneId { index, generation: lane.generation };
        let burial =
            Burial { lane: id, delivery: current.delivery.clone(), attempts: current.attempts, death: death.clone() };
        lane.state = LaneState::Burying;
        let partition = lane.partition;
        self.burials.push_back(burial);
        self.burying += 1;
        self.busy(partition);
    }

    /// What ran is over and done with.
    fn complete(&mut self, index: u32, settle: bool) {
        let lane = &mut self.lanes[index as usize];
        let more = std::mem::take(&mut lane.more);
        let current = lane.current.take();
        for entry in current.into_iter().chain(more) {
            if settle {
                self.settle.push(entry.delivery.token);
            }
            if let Some(place) = entry.place {
                self.lanes[index as usize].parked.remove(place);
            }
            self.left_hand(&entry);
        }
        self.settle_copies(index);
    }

    fn failed(&mut self, index: u32, reason: String, after: Option<Duration>, now: Now) {
        let (retry, random) = (self.settings.retry, self.random());
        let lane = &mut self.lanes[index as usize];
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

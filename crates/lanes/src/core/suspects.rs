use std::collections::VecDeque;
use std::time::Duration;

use partitura_broker::MessageId;

use super::model::LaneId;
use crate::Trials;

/// Number of noted messages that are remembered to have begun in this process.
const REMEMBERED: usize = 256;

/// The suspects that wait, and the trial that goes on.
#[derive(Debug)]
pub(super) struct Suspects {
    pub(super) trials: Trials,
    /// For each message that was put back and has not come back, until when it is waited for.
    pub(super) on_their_way: VecDeque<Duration>,
    /// Lanes whose head is to be put back, and those whose head is accused.
    pub(super) waiting: VecDeque<LaneId>,
    pub(super) accused: Vec<LaneId>,
    pub(super) on_trial: Option<Trial>,
    /// The noted messages that began last in this process, which has not ended.
    begun: VecDeque<MessageId>,
}

/// The trial of an accused message.
#[derive(Debug)]
pub(super) struct Trial {
    pub(super) message: MessageId,
    pub(super) until: Duration,
    /// Its copy has come back, and runs.
    pub(super) runs: bool,
}

impl Suspects {
    pub(super) fn new(trials: Trials) -> Self {
        Self {
            trials,
            on_their_way: VecDeque::new(),
            waiting: VecDeque::new(),
            accused: Vec::new(),
            on_trial: None,
            begun: VecDeque::new(),
        }
    }

    pub(super) fn is_on_trial(&self, message: &MessageId) -> bool {
        self.on_trial.as_ref().is_some_and(|trial| trial.message == *message)
    }

    pub(super) fn end_trial(&mut self) {
        if self.on_trial.take().is_some() {
            self.trials.end();
        }
    }

    /// Whether the noted message began in this process.
    pub(super) fn has_begun(&self, message: &MessageId) -> bool {
        self.begun.contains(message)
    }

    /// Remembers that a noted message begins.
    pub(super) fn begins(&mut self, message: &MessageId) {
        self.begun.truncate(REMEMBERED - 1);
        self.begun.push_front(message.clone());
    }
}

impl Drop for Suspects {
    fn drop(&mut self) {
        self.end_trial();
    }
}

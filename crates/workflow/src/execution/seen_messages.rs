//! The signals that a run has had.

use std::collections::{HashSet, VecDeque};

/// How many ids of signals the next run takes over. A signal is delivered again when its turn is not known to be settled, or
/// when its sender repeats it; both follow soon.
const IDS: usize = 256;

/// The ids of the signals of a run, the latest of them in their order.
#[derive(Debug, Default)]
pub(super) struct SeenMessages {
    all: HashSet<String>,
    latest: VecDeque<String>,
}

impl SeenMessages {
    pub(super) fn contains(&self, id: &str) -> bool {
        self.all.contains(id)
    }

    pub(super) fn insert(&mut self, id: String) {
        if !self.all.insert(id.clone()) {
            return;
        }
        self.latest.push_back(id);
        if self.latest.len() > IDS {
            self.latest.pop_front();
        }
    }

    /// The latest ids, the last one at the end.
    pub(super) fn latest(&self) -> Vec<String> {
        self.latest.iter().cloned().collect()
    }
}

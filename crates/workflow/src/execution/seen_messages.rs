//! The signals and updates that a run has had.

use std::collections::{HashMap, VecDeque};

/// How many ids of signals, and how many of updates, the next run takes over. A message is delivered again when its
/// turn is not known to be settled, or when its sender repeats it; both follow soon.
const IDS: usize = 256;

/// The ids of the signals or updates of a run with what is known of each, the latest of them in their order.
#[derive(Debug)]
pub(super) struct Seen<T> {
    all: HashMap<String, T>,
    latest: VecDeque<String>,
}

/// Signals: nothing is known of them but their ids.
pub(super) type SeenMessages = Seen<()>;

/// Updates: the run that has had each.
pub(super) type SeenUpdates = Seen<String>;

impl<T> Default for Seen<T> {
    fn default() -> Self {
        Self { all: HashMap::new(), latest: VecDeque::new() }
    }
}

impl<T> Seen<T> {
    pub(super) fn get(&self, id: &str) -> Option<&T> {
        self.all.get(id)
    }

    pub(super) fn insert(&mut self, id: String, known: T) {
        if self.all.insert(id.clone(), known).is_some() {
            return;
        }
        self.latest.push_back(id);
        if self.latest.len() > IDS {
            self.latest.pop_front();
        }
    }

    /// The latest ids, the last one at the end.
    pub(super) fn latest(&self) -> impl Iterator<Item = (&String, &T)> {
        self.latest.iter().filter_map(|id| self.all.get_key_value(id))
    }
}

//! The promised state.

use std::collections::{BTreeMap, BTreeSet};

use partitura_broker::Message;

/// The subscriptions: of the queue `q`, and of the stream `e`.
pub(crate) const PLACES: [(&str, &str); 3] = [("q", "s"), ("e", "a"), ("e", "b")];

/// A state of the broker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Expected {
    /// For each of the [`PLACES`] the unsettled messages, in the order of publishing.
    pub(crate) waiting: [Vec<Message>; 3],
    /// Values, with their versions.
    pub(crate) values: BTreeMap<Vec<u8>, (u64, Vec<u8>)>,
    /// Topics that were declared beside those of the places.
    pub(crate) topics: BTreeSet<String>,
    /// The topics of the places are declared.
    pub(crate) is_declared: bool,
}

impl Expected {
    pub(crate) fn publish(&mut self, message: &Message) {
        for (waiting, (topic, _)) in self.waiting.iter_mut().zip(PLACES) {
            if message.topic.as_str() == topic {
                waiting.push(message.clone());
            }
        }
    }

    pub(crate) fn settle(&mut self, place: usize, id: &str) {
        self.waiting[place].retain(|message| message.id.as_str() != id);
    }

    pub(crate) fn put(&mut self, key: &[u8], value: Option<&[u8]>) {
        match value {
            None => drop(self.values.remove(key)),
            Some(value) => {
                let version = self.values.get(key).map_or(0, |(version, _)| *version) + 1;
                self.values.insert(key.to_vec(), (version, value.to_vec()));
            }
        }
    }
}

//! The part of the world that gives final errors for a while.

use partitura::history::HISTORY_FORMAT;
use partitura_broker::{Entry, Error, Result, Space, TopicName};

use crate::plan::Broken;
use crate::rows::row_of;
use crate::world::State;

impl State {
    /// Whether publishing to this topic is allowed.
    pub(crate) fn admits(&self, topic: &TopicName, what: &'static str) -> Result<()> {
        match self.broken() {
            Some(Broken::Tasks(kind)) if topic.as_str().ends_with(".tasks") => {
                Err(Error::new(kind, what, "somebody has to mend this").of(topic))
            }
            _ => Ok(()),
        }
    }

    /// Returns the stored value, perhaps damaged.
    pub(crate) fn as_read(&self, space: Space, entry: Entry) -> Entry {
        let is_first = entry.key.split(|byte| *byte == 0).nth(1) == Some(b"p0");
        let value = match self.broken().filter(|_| space == "history" && is_first) {
            Some(Broken::Damaged) => "[".into(),
            Some(Broken::Newer) => row_of(HISTORY_FORMAT + 1, "something new"),
            _ => return entry,
        };
        Entry { value, ..entry }
    }

    fn broken(&self) -> Option<Broken> {
        self.plan.broken.filter(|_| self.chaos)
    }
}

//! The part of the world that gives final errors for a while.

use partitura::history::HISTORY_FORMAT;
use partitura_broker::{Entry, Error, ErrorKind, Message, Result, Space};

use crate::mutant::Mutant;
use crate::plan::Broken;
use crate::rows::row_of;
use crate::world::State;

impl State {
    /// Whether publishing this message is allowed.
    pub(crate) fn admits(&self, message: &Message, what: &'static str) -> Result<()> {
        let (topic, bytes) = (&message.topic, message.payload.len());
        let is_task = topic.as_str().ends_with(".tasks");
        if let Some(Broken::Tasks(kind)) = self.broken().filter(|_| is_task) {
            return Err(Error::new(kind, what, "somebody has to mend this").of(topic));
        }
        let Some(limit) = self.plan.payload else { return Ok(()) };
        let is_halved = (is_task && self.is_mutant(Mutant::TasksTooLarge))
            || (topic.as_str().ends_with(".events") && self.is_mutant(Mutant::EventsTooLarge));
        let limit = if is_halved { limit / 2 } else { limit };
        if bytes > limit {
            let text = format!("{bytes} bytes, and {limit} are allowed");
            return Err(Error::new(ErrorKind::PayloadTooLarge, what, text).of(topic));
        }
        Ok(())
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

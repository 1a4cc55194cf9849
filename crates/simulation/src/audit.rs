//! What is noted of a world as it goes, to be checked then or at its end.

use std::collections::BTreeMap;

use bytes::Bytes;
use partitura_broker::{Message, Version};

use crate::world::State;

/// Everything that was observed from outside of the engine.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    /// Turns in each run's history.
    turns: BTreeMap<Bytes, u32>,
    /// The events of workflows by id, as they were published first.
    pub(crate) events: BTreeMap<String, Bytes>,
    /// The calls of services by idempotency key: what was called, and how often.
    pub(crate) calls: BTreeMap<String, (String, u32)>,
}

impl State {
    /// A turn is committed: the only one of its number, and the next one of its run.
    pub(crate) fn history_was_written(&mut self, key: &Bytes, version: Version) {
        let (run, turn) = key.split_at(key.len().saturating_sub(4));
        let turn = <[u8; 4]>::try_from(turn).map(u32::from_be_bytes).unwrap_or(u32::MAX);
        let next = self.audit.turns.entry(Bytes::copy_from_slice(run)).or_default();
        let expected = *next;
        *next = turn.saturating_add(1);
        let name = String::from_utf8_lossy(run).replace('\0', "/");
        if version > 1 {
            self.violate("a turn is committed once", format!("turn {turn} of {name} was written again"));
        } else if turn != expected {
            self.violate("turns have no gaps", format!("turn {turn} of {name} follows turn {expected} − 1"));
        }
    }

    /// An event may be published twice, but not differently.
    pub(crate) fn event_was_published(&mut self, message: Message) {
        if !message.topic.as_str().starts_with("workflow.") {
            return;
        }
        let id = message.id.as_str().to_owned();
        let known = self.audit.events.entry(id.clone()).or_insert_with(|| message.payload.clone());
        if *known != message.payload {
            self.violate("an event is published as it was first", format!("{id} differs"));
        }
    }

    /// A task keeps its key over all attempts, and a key its task.
    pub(crate) fn service_was_called(&mut self, key: &str, what: String) {
        let (known, count) = self.audit.calls.entry(key.to_owned()).or_insert_with(|| (what.clone(), 0));
        *count += 1;
        if *known != what {
            let text = format!("{key} is that of {known} and of {what}");
            self.violate("an idempotency key belongs to one task", text);
        }
    }
}

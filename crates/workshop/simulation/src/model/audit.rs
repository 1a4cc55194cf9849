//! Notes about a running world.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use partitura::{StartPolicy, Status, Summary, TaskToken};
use partitura_broker::Message;
use serde::Deserialize;

use super::calls::Calls;
use super::deletions::Deletions;
use crate::rows::{body, mentions};

/// All observations from outside of the engine.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    /// Turns in each run's history.
    pub(crate) turns: BTreeMap<Bytes, u32>,
    /// The history keys of runs, in the order in which they began.
    pub(crate) begun: Vec<Bytes>,
    /// Runs that were stopped once: inputs that came meanwhile are kept as they came.
    pub(crate) stopped: BTreeSet<String>,
    /// The times at which timers are due, by run and number.
    pub(crate) timers: BTreeMap<(Bytes, u32), u64>,
    /// The policies of the stored starts, by run.
    pub(crate) starts: BTreeMap<String, Start>,
    /// The events of workflows by id, as they were published first.
    pub(crate) events: BTreeMap<String, Bytes>,
    /// The tokens that were handed out, by the id of the instance, in the order of attempts.
    pub(crate) tokens: BTreeMap<String, Vec<TaskToken>>,
    /// How many turns have ended their process.
    pub(crate) doomed_turns: u32,
    /// The calls of services and steps.
    pub(crate) calls: Calls,
    /// The instances that were deleted.
    pub(crate) deletions: Deletions,
}

/// The part of a command to start an instance that the audit reads.
#[derive(Debug, Deserialize)]
pub(crate) struct Start {
    pub(crate) run: String,
    #[serde(default)]
    pub(crate) policy: StartPolicy,
    /// The id of the instance.
    #[serde(skip)]
    pub(crate) id: String,
    /// The time at which it begins, in milliseconds.
    #[serde(skip)]
    pub(crate) due: u64,
}

/// Whether a message is the command to start an instance.
pub(crate) fn is_start(message: &Message) -> bool {
    message.payload.starts_with(b"{\"Start\"")
}

impl Audit {
    pub(crate) fn command_was_stored(&mut self, message: &Message) {
        #[derive(Deserialize)]
        struct Command {
            #[serde(rename = "Start")]
            start: Start,
        }
        if is_start(message)
            && let Ok(Command { mut start }) = serde_json::from_slice(&message.payload)
        {
            start.due = message.not_before.map(|due| due.as_millis()).unwrap_or_default();
            start.id = message.key.as_deref().map(String::from_utf8_lossy).unwrap_or_default().into_owned();
            self.starts.insert(start.run.clone(), start);
        }
    }

    pub(crate) fn summary_was_written(&mut self, value: &Bytes) {
        if (mentions(value, "\"Stopped\"") || mentions(value, "\"Paused\""))
            && let Ok(summary) = body::<Summary>(value)
            && matches!(summary.status, Status::Stopped { .. } | Status::Paused { .. })
        {
            self.stopped.insert(summary.run);
        }
    }
}

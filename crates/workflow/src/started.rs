use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Payload, Retry, TraceContext};

/// How an instance began: everything its code may know about itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Started {
    /// The workflow's name.
    pub workflow: String,
    /// The instance's id, chosen by the caller that started it.
    pub id: String,
    /// This run of the id: a UUID.
    pub run: String,
    /// Feeds the instance's random numbers.
    pub seed: u64,
    /// The argument of `run`.
    pub input: Payload,
    /// The workflow that started this one as a child.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ParentRef>,
    /// Where a client waits for the outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// Free labels to find the instance by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The [`RULES`](crate::RULES) that this run lives by.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rules: u32,
    /// The version of the workflow that this run lives with, from 1: see
    /// [`Workflow::VERSION`](crate::Workflow::VERSION).
    #[serde(default = "first", skip_serializing_if = "is_first")]
    pub version: u32,
    /// When the instance is ended if it still runs, in milliseconds since the Unix epoch; the same for all runs of a
    /// chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<u64>,
    /// How long this run, and each that continues it, may last, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_timeout_ms: Option<u64>,
    /// When a run that fails is tried again. `None`: its failure is that of the instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// The values that it takes over from the run before it, whose code continued as new, or which failed and is tried
    /// again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continued: Option<Box<Continued>>,
    /// Where its start stands in a trace: the turns of all its runs belong to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceContext>,
}

impl Started {
    /// When a run that began at this time is ended if it still runs. `None`: never.
    pub fn expires(&self, began: u64) -> Option<u64> {
        let began = self.begins_at().map_or(began, |at| at.max(began));
        let of_run = self.run_timeout_ms.map(|limit| began.saturating_add(limit));
        of_run.into_iter().chain(self.deadline).min()
    }

    /// When its code begins, in milliseconds since the Unix epoch, if it waits before that.
    pub fn begins_at(&self) -> Option<u64> {
        self.continued.as_ref().and_then(|continued| continued.begins_at)
    }

    /// Which attempt this run is, from 1: see [`retry`](Self::retry).
    pub fn attempt(&self) -> u32 {
        self.continued.as_ref().map_or(0, |continued| continued.failed_before).saturating_add(1)
    }
}

/// The values that a run takes over from the run before it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Continued {
    /// The run before.
    pub from: String,
    /// The run that began the chain.
    pub first: String,
    /// Signals that no code has received yet, by their names, oldest first.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub signals: BTreeMap<String, Vec<Payload>>,
    /// The ids of the latest signals of the run before, the last one at the end: a copy of one has no effect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seen: Vec<String>,
    /// The latest updates of the runs before, the last one at the end: a copy of one gives the result that it gave
    /// then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub updates: Vec<EarlierUpdate>,
    /// Its cancellation was requested: so is that of this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<CancelRequest>,
    /// How many attempts have failed before this one, since the start or since the code continued as new.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failed_before: u32,
    /// When its code begins, in milliseconds since the Unix epoch: an attempt waits before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begins_at: Option<u64>,
}

/// An update that an earlier run has had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EarlierUpdate {
    /// The update's id.
    pub id: String,
    /// The run whose history has it.
    pub run: String,
}

/// A request for the cancellation of an instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelRequest {
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Where the outcome of a child goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParentRef {
    /// The parent's workflow name.
    pub workflow: String,
    /// The parent's id.
    pub id: String,
    /// The parent's run.
    pub run: String,
    /// The `seq` of the parent's `ChildStarted`.
    pub seq: u32,
}

fn first() -> u32 {
    1
}

fn is_first(version: &u32) -> bool {
    *version == 1
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

use std::collections::BTreeMap;

use partitura_workflow::{Attribute, EventKind, ParentRef};
use serde::{Deserialize, Serialize};

use crate::wire::Outcome;
use crate::wire::end_signal::EndSignal;
use crate::wire::indexed::Indexed;
use crate::wire::shorten::{shorten, shortened};
use crate::wire::waiting::Waiting;

/// The state of an instance without its history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Summary {
    /// The workflow's name.
    pub workflow: String,
    /// The instance's id.
    pub id: String,
    /// This run of the id: a UUID.
    pub run: String,
    /// Where it stands.
    pub status: Status,
    /// In milliseconds since the Unix epoch.
    pub started_at: u64,
    /// In milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<u64>,
    /// Labels to find it by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The attributes that its code has set: see [`Cx::set_attribute`](partitura_workflow::Cx::set_attribute).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, Attribute>,
    /// The [build](crate::Worker::build_id) that took its latest turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<String>,
    /// The version of each change that it lives with: see [`Cx::version`](partitura_workflow::Cx::version).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub versions: BTreeMap<String, u32>,
    /// The workflow that started it as a child.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ParentRef>,
    /// Workflows that did not start it and await its outcome as that of a child.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub awaited_by: Vec<ParentRef>,
    /// The event that ended it. [Lists](crate::Client::list) leave it out unless [asked](Filter::with_ends), and
    /// payloads that the broker does not take are missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<EventKind>,
    /// The first 100 things that it waits for. Only [descriptions](crate::WorkflowHandle::describe) say it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<Waiting>,
    /// How many things it waits for in all.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub waits_for: usize,
    /// Code of it that has not come back for a second or more: what comes for the instance waits, and what is in hand
    /// is not in this description. Only [descriptions](crate::WorkflowHandle::describe) say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_up: Option<HeldUp>,
    /// Numbers of the tasks that it has detached, once it has ended: they are wanted still.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub detached: Vec<u32>,
    /// When it is deleted, once it has ended, in milliseconds since the Unix epoch; never by itself without. See
    /// [`Retention`](crate::Retention).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
    /// The run that began the chain, if the code has [continued as new](partitura_workflow::Cx::continue_as_new) since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_run: Option<String>,
    /// The version of the workflow that this run lives with: see
    /// [`Workflow::VERSION`](partitura_workflow::Workflow::VERSION).
    #[serde(default = "first", skip_serializing_if = "is_first")]
    pub workflow_version: u32,
    /// It is paused because its [workflow is](crate::Client::pause), and goes on with that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused_with_workflow: bool,
    /// Which attempt this run is, from 1, where a run that fails is [tried again](crate::Start::retry).
    #[serde(default = "first", skip_serializing_if = "is_first")]
    pub attempt: u32,
    /// Tasks that earlier runs of the chain have detached, by run: they are wanted still.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) detached_before: BTreeMap<String, Vec<u32>>,
    #[serde(skip)]
    pub(crate) indexed: Indexed,
    /// The receivers that are told how it ends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) end_signals: Vec<EndSignal>,
}

impl Summary {
    /// Whether this names the instance's present run: by its own name, or by that of the run that began the chain.
    pub(crate) fn is_run(&self, run: &str) -> bool {
        self.run == run || self.first_run.as_deref() == Some(run)
    }

    pub(crate) fn has_detached_before(&self, run: &str, seq: u32) -> bool {
        self.detached_before.get(run).is_some_and(|tasks| tasks.contains(&seq))
    }

    /// Leaves out payloads, tags, attributes, versions and all but a few of the things that it waits for, and cuts what
    /// is said.
    pub(crate) fn shorten(&mut self) {
        self.tags.clear();
        self.attributes.clear();
        self.versions.clear();
        self.awaited_by.clear();
        self.end_signals.clear();
        self.detached.clear();
        self.detached_before.clear();
        self.waiting.truncate(3);
        for waiting in &mut self.waiting {
            if let Waiting::Step { name, .. } | Waiting::Channel { name } = waiting {
                shorten(name, 512);
            }
        }
        self.end = self.end.as_ref().map(shortened);
        if let Status::Stopped { reason } | Status::Paused { reason } = &mut self.status {
            shorten(reason, 512);
        }
    }

    pub(crate) fn outcome(&self) -> Option<Outcome> {
        self.end.as_ref().and_then(Outcome::of_end)
    }

    pub(crate) fn close(&mut self, at: u64, end: &EventKind) {
        self.status = match end {
            EventKind::WorkflowCompleted { .. } => Status::Completed,
            EventKind::WorkflowCancelled { .. } => Status::Cancelled,
            _ => Status::Failed,
        };
        self.closed_at = Some(at);
        self.end = Some(end.clone());
    }
}

/// Code that does not come back: it loops for ever, or blocks its thread.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HeldUp {
    /// Which code: `run`, `signal NAME`, `query NAME`, or `run, replayed`.
    pub code: String,
    /// Since when it runs, in milliseconds since the Unix epoch.
    pub since: u64,
}

/// Where an instance stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Status {
    /// It has not ended.
    Running,
    /// Its code cannot go on: it panics, or does not fit the history. Messages that arrive are kept. It is tried again
    /// when a worker takes over its partition whose [build](crate::Worker::build_id) has not tried it yet, by itself
    /// after 30 seconds and then ever more seldom, every 10 minutes at last, and when somebody resumes it; with
    /// repaired code it goes on.
    Stopped {
        /// The problem, and what to do about it.
        reason: String,
    },
    /// Somebody has [paused](crate::WorkflowHandle::pause) it: its code does not run, and what arrives is kept, until
    /// it is resumed.
    Paused {
        /// Why, for people.
        reason: String,
    },
    /// It returned `Ok`.
    Completed,
    /// It returned `Err`, or was terminated.
    Failed,
    /// It ended after it was cancelled.
    Cancelled,
}

impl Status {
    /// Whether it has ended.
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// Why it is stopped, if it is.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Stopped { reason } => Some(reason),
            _ => None,
        }
    }

    /// Without details.
    pub fn kind(&self) -> StatusKind {
        match self {
            Self::Running => StatusKind::Running,
            Self::Stopped { .. } => StatusKind::Stopped,
            Self::Paused { .. } => StatusKind::Paused,
            Self::Completed => StatusKind::Completed,
            Self::Failed => StatusKind::Failed,
            Self::Cancelled => StatusKind::Cancelled,
        }
    }

    /// In one word.
    pub fn name(&self) -> &'static str {
        self.kind().name()
    }
}

/// A [`Status`] without details: what one lists by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum StatusKind {
    /// It has not ended.
    Running,
    /// Its code cannot go on.
    Stopped,
    /// Somebody has paused it.
    Paused,
    /// It returned `Ok`.
    Completed,
    /// It returned `Err`, or was terminated.
    Failed,
    /// It ended after it was cancelled.
    Cancelled,
}

impl StatusKind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Running, Self::Stopped, Self::Paused, Self::Completed, Self::Failed, Self::Cancelled];

    /// In one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// As a part of keys: never changes.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Running => 1,
            Self::Stopped => 2,
            Self::Paused => 3,
            Self::Completed => 4,
            Self::Failed => 5,
            Self::Cancelled => 6,
        }
    }
}

/// By which time instances are found, the newest first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Order {
    /// When they were started.
    #[default]
    Started,
    /// When they ended: only those that have.
    Closed,
}

/// Which instances to list. Everything that is `None` matches all. The default is the first 1,000 instances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Filter {
    /// Where they stand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<StatusKind>,
    /// One of the tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Only ids behind this one, in the order of their bytes: how one reads on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// The largest number of summaries to give.
    pub limit: usize,
    /// With the events that ended them, and so with results.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ends: bool,
}

impl Default for Filter {
    fn default() -> Self {
        Self::first(1_000)
    }
}

impl Filter {
    /// The first `limit` instances.
    pub fn first(limit: usize) -> Self {
        Self { status: None, tag: None, after: None, limit, ends: false }
    }

    /// All instances, however many there are.
    pub fn all() -> Self {
        Self::first(usize::MAX)
    }

    /// Only those that stand here.
    #[must_use]
    pub fn status(mut self, status: StatusKind) -> Self {
        self.status = Some(status);
        self
    }

    /// With the [events that ended them](Summary::end), and so with results.
    #[must_use]
    pub fn with_ends(mut self) -> Self {
        self.ends = true;
        self
    }

    /// Only those with a tag.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tag = Some(tag.into());
        self
    }

    /// Only ids behind this one.
    #[must_use]
    pub fn after(mut self, id: impl Into<String>) -> Self {
        self.after = Some(id.into());
        self
    }

    pub(crate) fn matches(&self, summary: &Summary) -> bool {
        self.status.is_none_or(|status| status == summary.status.kind())
            && self.tag.as_ref().is_none_or(|tag| summary.tags.contains(tag))
    }
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

fn first() -> u32 {
    1
}

fn is_first(number: &u32) -> bool {
    *number == 1
}

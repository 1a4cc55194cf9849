use partitura_workflow::{EventKind, ParentRef};
use serde::{Deserialize, Serialize};

use crate::wire::Outcome;

/// What is known of an instance without its history.
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
    /// The workflow that started it as a child.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ParentRef>,
    /// The event that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<EventKind>,
    /// Numbers of the tasks that it has detached, once it has ended: they are wanted still.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub detached: Vec<u32>,
}

impl Summary {
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

/// Where an instance stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Status {
    /// It has not ended.
    Running,
    /// Its code cannot go on: it panics, or does not fit the history. What arrives is kept. It is tried again by every
    /// worker that starts, by itself after 30 seconds and then ever more seldom, every 10 minutes at last, and when
    /// somebody resumes it; with repaired code it goes on.
    Stopped {
        /// What is wrong, and what to do.
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

    /// In one word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped { .. } => "stopped",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Which instances to list. Everything that is `None` matches all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Filter {
    /// [`Status::name`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// One of the tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Only ids behind this one, in the order of their bytes: how one reads on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// At most so many; 1,000 at the most.
    pub limit: usize,
}

impl Filter {
    /// The first `limit` instances.
    pub fn first(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Only those of a status, by its [name](Status::name).
    #[must_use]
    pub fn status(mut self, name: impl Into<String>) -> Self {
        self.status = Some(name.into());
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
        self.status.as_deref().is_none_or(|status| status == summary.status.name())
            && self.tag.as_ref().is_none_or(|tag| summary.tags.contains(tag))
    }
}

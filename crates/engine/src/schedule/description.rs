//! The description of a schedule.

use partitura_workflow::jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::specification::ScheduleSpecification;
pub use crate::wire::end_signal::ActionEnd;

/// Where a schedule stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ScheduleDescription {
    /// The schedule's id.
    pub id: String,
    /// The workflow that it starts, and its times.
    pub specification: ScheduleSpecification,
    /// Why it is paused, if it is.
    pub paused: Option<String>,
    /// The reason for which its times cannot be computed, if so: its time zone is not known to the worker, for example.
    /// It is tried again every hour, and when it is updated.
    pub problem: Option<String>,
    /// The next times at which it starts an instance, with jitter: up to 10. None while it is paused, or if it has no
    /// more.
    pub next: Vec<Timestamp>,
    /// The instances that it has started and that have not ended, the oldest first.
    pub running: Vec<ScheduledStart>,
    /// The ids of the instances that wait until others have ended: up to 10.
    pub waiting: Vec<String>,
    /// The latest instances that have ended, the last one at the end: up to 10.
    pub recent: Vec<ScheduledStart>,
    /// How many instances it has started.
    pub started: u64,
    /// How many times were skipped because of instances that ran: see [`Overlap`](crate::Overlap).
    pub skipped: u64,
    /// How many times were missed: no worker ran within the [catch-up window](crate::ScheduleBuilder::catch_up). 10,000
    /// and more in one piece are counted as 10,000.
    pub missed: u64,
    /// How many instances it starts yet, if that is limited.
    pub remaining: Option<u64>,
}

/// An instance that a schedule has started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ScheduledStart {
    /// The instance's id: that of the schedule, a hyphen, and the time: `nightly-2026-03-29T01:00:00Z`.
    pub id: String,
    /// Its time, as the calendar has it. `None`: it was triggered by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nominal: Option<Timestamp>,
    /// When it was started.
    pub started_at: Timestamp,
    /// When its end was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<ActionEnd>,
}

//! The specification of a schedule: the workflow that it starts, and its times.

use std::time::Duration;

use partitura_workflow::Payload;
use partitura_workflow::jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The workflow that a [schedule](crate::Client::schedule) starts, and its times. It is written by a
/// [builder](crate::ScheduleBuilder).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ScheduleSpecification {
    /// The name of the workflow that it starts.
    pub workflow: String,
    /// The input of each instance.
    pub input: Payload,
    /// Labels of each instance, beside `schedule:` and the id of the schedule.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Its times: all of them together.
    pub times: Vec<Recurrence>,
    /// The time zone of its cron expressions.
    pub time_zone: String,
    /// The policy for a time at which an earlier instance runs.
    pub overlap: Overlap,
    /// Up to how much later than its time an instance is started.
    #[serde(default)]
    pub jitter: Duration,
    /// How late a start may be, if no worker could do it in time. Later ones are missed.
    pub catch_up: Duration,
    /// How many instances it starts in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<u64>,
}

/// Times that come again and again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Recurrence {
    /// Those of a cron expression of five fields.
    Cron(String),
    /// Those that are a multiple of a period, and an offset, after the Unix epoch.
    Every {
        /// The time from one to the next.
        period: Duration,
        /// How much later.
        offset: Duration,
    },
}

/// The policy of a schedule for a time at which an instance that it started before runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Overlap {
    /// Nothing: the time is skipped, and counted.
    #[default]
    Skip,
    /// Starts one instance when what runs has ended. Further times meanwhile are skipped.
    BufferOne,
    /// Starts an instance for each such time, one after the other. Up to 1,000 wait; further times are skipped.
    BufferAll,
    /// Cancels what runs, and starts an instance when that has ended. If it takes longer than to the next time, the
    /// latest counts.
    CancelOther,
    /// Terminates what runs, without its code, and starts an instance.
    TerminateOther,
    /// Starts an instance beside those that run.
    AllowAll,
}

/// A command of a client to a schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum ScheduleCommand {
    Pause { reason: String },
    Resume,
    Trigger,
    Backfill { from: Timestamp, to: Timestamp, overlap: Overlap },
    Update(Box<ScheduleSpecification>),
}

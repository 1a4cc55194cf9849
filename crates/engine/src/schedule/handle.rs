//! Schedules, as clients see them.

use std::fmt;
use std::time::Duration;

use partitura_workflow::jiff::Timestamp;

use super::builder::ScheduleBuilder;
use super::description::ScheduleDescription;
use super::specification::{Overlap, ScheduleCommand};
use super::workflow::{ScheduleWorkflow, description, send};
use crate::client::handle::WorkflowHandle;
use crate::error::ClientError;

/// How often a schedule that has just ended is asked to go.
const DELETIONS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);

/// A schedule, named by its id, whether it exists or not. Cheap to clone.
///
/// Its methods return when the schedule has taken what they say, for which a worker with
/// [`Worker::schedules`](crate::Worker::schedules) has to run. Without one they are [`NoAnswer`](ClientError::NoAnswer)
/// after 30 seconds, but what they say is durable, and takes effect when one runs.
#[derive(Clone)]
pub struct ScheduleHandle(WorkflowHandle<ScheduleWorkflow>);

impl ScheduleHandle {
    pub(crate) fn new(workflow: WorkflowHandle<ScheduleWorkflow>) -> Self {
        Self(workflow)
    }

    /// The schedule's id.
    pub fn id(&self) -> &str {
        self.0.id()
    }

    /// Begins a specification with the times of a cron expression. See [`ScheduleBuilder::cron`].
    pub fn cron(&self, expression: impl Into<String>) -> ScheduleBuilder {
        ScheduleBuilder::new(self.0.clone()).cron(expression)
    }

    /// Begins a specification with an interval. See [`ScheduleBuilder::every`].
    pub fn every(&self, period: Duration) -> ScheduleBuilder {
        ScheduleBuilder::new(self.0.clone()).every(period)
    }

    /// Starts nothing more at its times until it is [resumed](Self::resume). Instances that run go on; those that wait
    /// for their end are started, and so is what is triggered or backfilled.
    ///
    /// # Errors
    /// [`NotFound`](ClientError::NotFound); [`NoAnswer`](ClientError::NoAnswer); those of the broker.
    ///
    /// # Cancel safety
    /// Dropped, it may or may not have been sent. Sending it again is harmless.
    pub async fn pause(&self, reason: impl Into<String>) -> Result<(), ClientError> {
        send(&self.0, &ScheduleCommand::Pause { reason: reason.into() }).await
    }

    /// Goes on with the next time. Starts that were due while it was paused are not made up for: see
    /// [`backfill`](Self::backfill).
    ///
    /// # Errors
    /// As for [`pause`](Self::pause).
    ///
    /// # Cancel safety
    /// As for [`pause`](Self::pause).
    pub async fn resume(&self) -> Result<(), ClientError> {
        send(&self.0, &ScheduleCommand::Resume).await
    }

    /// Starts an instance now, beside its times, whatever else runs and also while the schedule is paused. It does not
    /// count towards the [limit](ScheduleBuilder::at_most).
    ///
    /// # Errors
    /// As for [`pause`](Self::pause).
    ///
    /// # Cancel safety
    /// Dropped, it may or may not have been sent.
    pub async fn trigger(&self) -> Result<(), ClientError> {
        send(&self.0, &ScheduleCommand::Trigger).await
    }

    /// Starts an instance for each time of a span, both ends included: up to 1,000. `overlap` says what to do while
    /// others run: [`BufferAll`](Overlap::BufferAll) starts one after the other. A time whose instance exists already
    /// is not started again. It does not count towards the [limit](ScheduleBuilder::at_most), and there is no jitter.
    ///
    /// # Errors
    /// As for [`pause`](Self::pause).
    ///
    /// # Cancel safety
    /// Dropped, it may or may not have been sent. Sending it again is harmless, for as long as the instances are
    /// [kept](crate::Retention).
    pub async fn backfill(&self, from: Timestamp, to: Timestamp, overlap: Overlap) -> Result<(), ClientError> {
        send(&self.0, &ScheduleCommand::Backfill { from, to, overlap }).await
    }

    /// Where the schedule stands: its next times, what runs, what became of the latest instances.
    ///
    /// # Errors
    /// [`NotFound`](ClientError::NotFound); [`NoAnswer`](ClientError::NoAnswer) if no worker runs schedules, so that
    /// this one starts nothing; those of the broker.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn describe(&self) -> Result<ScheduleDescription, ClientError> {
        self.0.query(description()).await
    }

    /// Ends the schedule and forgets it. Instances that run go on.
    ///
    /// # Errors
    /// As for [`pause`](Self::pause).
    ///
    /// # Cancel safety
    /// Dropped, the schedule may have ended and be known still, for as long as it is [kept](crate::Retention).
    pub async fn delete(&self) -> Result<(), ClientError> {
        match self.0.terminate("the schedule was deleted").confirmed().await {
            Ok(()) | Err(ClientError::Ended { .. }) => {}
            Err(error) => return Err(error),
        }
        let mut tried = 0;
        loop {
            match self.0.delete().confirmed().await {
                // It has ended this very moment.
                Err(ClientError::Refused(_)) if tried < DELETIONS => tried += 1,
                Err(ClientError::NotFound { .. }) => return Ok(()),
                deleted => return deleted,
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl fmt::Debug for ScheduleHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ScheduleHandle").field(&self.id()).finish()
    }
}

//! Schedules.

use partitura_engine::{Overlap, ScheduleDescription};
use partitura_workflow::Timestamp;

use crate::admin::{Admin, within};
use crate::error::AdminError;

/// Something to be done to a schedule.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ScheduleAction {
    /// Start nothing more at its times, for this reason.
    Pause(String),
    /// Go on with its next time.
    Resume,
    /// Start an instance now.
    Trigger,
    /// Start the instances of the times from `from` to `to`, which are in the past.
    Backfill {
        /// The first moment.
        from: Timestamp,
        /// The last moment.
        to: Timestamp,
        /// The policy for a time at which an earlier instance runs.
        overlap: Overlap,
    },
}

impl Admin {
    /// Where each schedule stands, by id.
    ///
    /// # Errors
    /// [`Refused`](AdminError::Refused): no worker runs schedules; [`Timeout`](AdminError::Timeout); those of the
    /// broker.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn schedules(&self) -> Result<Vec<ScheduleDescription>, AdminError> {
        let client = self.partitura.client();
        within("read schedules", async {
            let mut schedules = Vec::new();
            for id in client.schedules().await? {
                schedules.push(client.schedule(id).describe().await?);
            }
            Ok(schedules)
        })
        .await
    }

    /// Where a schedule stands.
    ///
    /// # Errors
    /// [`NotFound`](AdminError::NotFound); else as for [`schedules`](Self::schedules).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn schedule(&self, id: &str) -> Result<ScheduleDescription, AdminError> {
        Ok(self.partitura.client().schedule(id).describe().await?)
    }

    /// Does it, waits until the schedule has taken it, and leaves a record as [`act`](Self::act) does.
    ///
    /// # Errors
    /// As for [`schedule`](Self::schedule).
    ///
    /// # Cancel safety
    /// Dropped, it may or may not have been sent, and there may be no record.
    pub async fn act_on_schedule(&self, who: &str, id: &str, action: ScheduleAction) -> Result<(), AdminError> {
        let schedule = self.partitura.client().schedule(id);
        let (name, done) = match &action {
            ScheduleAction::Pause(reason) => ("pause schedule", schedule.pause(reason).await),
            ScheduleAction::Resume => ("resume schedule", schedule.resume().await),
            ScheduleAction::Trigger => ("trigger schedule", schedule.trigger().await),
            ScheduleAction::Backfill { from, to, overlap } => {
                ("backfill schedule", schedule.backfill(*from, *to, *overlap).await)
            }
        };
        let done = done.map_err(AdminError::from);
        let outcome = done.as_ref().map_or_else(ToString::to_string, |()| "done".to_owned());
        tracing::info!(target: "partitura::audit", who, action = name, id, ?action, outcome);
        done
    }
}

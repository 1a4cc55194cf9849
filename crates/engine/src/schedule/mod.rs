//! Schedules: instances that are started again and again, at times that a calendar or an interval gives.
//!
//! A schedule is an instance of a workflow of ours, which any worker runs that has
//! [`Worker::schedules`](crate::Worker::schedules). Its code sleeps until the next time, starts an instance of the
//! user's workflow and lets it go. The end of that instance comes back as a signal, so that it reaches the schedule in
//! whichever run. After some hundred events the schedule continues as new.
//!
//! Times are computed in a step (`calendar`, `plan`): what is recorded counts, whatever the time zones of another
//! machine say. Plain code without I/O (`state`) decides about times and signals.

pub(crate) mod builder;
mod calendar;
pub(crate) mod description;
pub(crate) mod handle;
mod plan;
pub(crate) mod specification;
mod state;
pub(crate) mod workflow;

use crate::worker::Worker;
use workflow::ScheduleWorkflow;

impl Worker {
    /// Runs [schedules](crate::Client::schedule): some worker has to, and the workflows that they start are registered
    /// as ever. If several do, they share the work.
    #[must_use]
    pub fn schedules(self) -> Self {
        self.workflow::<ScheduleWorkflow>()
    }
}

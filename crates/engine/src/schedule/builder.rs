//! Specifications of schedules, as they are written.

use std::time::Duration;

use partitura_workflow::{Payload, Signal, Workflow};

use super::plan::span;
use super::specification::{Overlap, Recurrence, ScheduleCommand, ScheduleSpecification};
use super::state::State;
use super::workflow::{COMMANDS, ScheduleInput, ScheduleWorkflow, send};
use crate::client::handle::WorkflowHandle;
use crate::error::ClientError;
use crate::wire::StartPolicy;

/// The longest id of a schedule, in bytes: ids of instances are made from it.
const LONGEST_ID: usize = 400;

/// The specification of a [schedule](crate::Client::schedule), about to be sent.
#[must_use = "no schedule is started or updated before this is sent"]
#[derive(Debug, Clone)]
pub struct ScheduleBuilder {
    handle: WorkflowHandle<ScheduleWorkflow>,
    specification: ScheduleSpecification,
    paused: Option<String>,
}

impl ScheduleBuilder {
    pub(super) fn new(handle: WorkflowHandle<ScheduleWorkflow>) -> Self {
        let specification = ScheduleSpecification {
            workflow: String::new(),
            input: Payload::null(),
            tags: Vec::new(),
            times: Vec::new(),
            time_zone: "UTC".to_owned(),
            overlap: Overlap::default(),
            jitter: Duration::ZERO,
            catch_up: Duration::from_secs(24 * 60 * 60),
            at_most: None,
        };
        Self { handle, specification, paused: None }
    }

    /// Adds the times of a cron expression of five fields: minute, hour, day of the month, month, day of the week. `0 3
    /// * * *` is each day at three, `0 9 * * MON-FRI` each weekday at nine, `0 0 L * *` the last day of each month.
    ///
    /// If the clocks of the [time zone](Self::time_zone) are put forward, a time of the day that does not exist is the
    /// moment of that; if they are put back, a time that exists twice is the first of the two. An expression whose
    /// minute or hour begins with `*` means an interval: it goes by the clocks as they are, and misses or repeats
    /// nothing.
    pub fn cron(mut self, expression: impl Into<String>) -> Self {
        self.specification.times.push(Recurrence::Cron(expression.into()));
        self
    }

    /// Adds the times of an interval of at least 1 s: the multiples of it since the Unix epoch. `every(hours(6))` is at
    /// 0, 6, 12 and 18 o'clock UTC, whenever the schedule begins.
    pub fn every(mut self, period: Duration) -> Self {
        self.specification.times.push(Recurrence::Every { period, offset: Duration::ZERO });
        self
    }

    /// Moves the interval that was [added](Self::every) last by this.
    pub fn offset(mut self, by: Duration) -> Self {
        if let Some(Recurrence::Every { offset, .. }) = self.specification.times.last_mut() {
            *offset = by;
        }
        self
    }

    /// The time zone of the cron expressions, as `Europe/Berlin`. UTC unless set.
    pub fn time_zone(mut self, name: impl Into<String>) -> Self {
        self.specification.time_zone = name.into();
        self
    }

    /// Sets the policy for a time at which an instance that the schedule started before runs. [`Overlap::Skip`] unless
    /// set.
    pub fn overlap(mut self, overlap: Overlap) -> Self {
        self.specification.overlap = overlap;
        self
    }

    /// Starts each instance up to this much later than its time, so that not all start at once. It is always the same
    /// for one time of one schedule, and earlier than the next time.
    pub fn jitter(mut self, most: Duration) -> Self {
        self.specification.jitter = most;
        self
    }

    /// How late a start may be, if no worker ran at its time. Times that are older are missed, and counted. One day
    /// unless set.
    pub fn catch_up(mut self, window: Duration) -> Self {
        self.specification.catch_up = window;
        self
    }

    /// Starts up to this many instances at its times, and then nothing more until it is updated.
    pub fn at_most(mut self, starts: u64) -> Self {
        self.specification.at_most = Some(starts);
        self
    }

    /// Adds a label to find the instances by, beside `schedule:` and the id of the schedule.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.specification.tags.push(tag.into());
        self
    }

    /// A new schedule is paused, until it is [resumed](crate::ScheduleHandle::resume). Not for updates.
    pub fn paused(mut self, reason: impl Into<String>) -> Self {
        self.paused = Some(reason.into());
        self
    }

    /// Starts the schedule, which starts instances of `W` with this input. Returns once that is durable.
    ///
    /// Idempotent by id: a schedule that exists is taken as it is. See [`update`](Self::update) and
    /// [`start_or_update`](Self::start_or_update).
    ///
    /// # Errors
    /// [`InvalidSchedule`](ClientError::InvalidSchedule) with what is wrong; [`InvalidId`](ClientError::InvalidId);
    /// [`Payload`](ClientError::Payload) when the input cannot be encoded; those of the broker.
    ///
    /// # Cancel safety
    /// Dropped, it may or may not have started. Starting again is harmless.
    pub async fn start<W: Workflow>(self, input: W::Input) -> Result<(), ClientError> {
        let (handle, specification, paused) = self.checked::<W>(&input)?;
        let state = State::new(specification).paused(paused);
        handle.start(ScheduleInput(state)).policy(StartPolicy::RestartEnded).await
    }

    /// Replaces the specification of a schedule that exists. Instances that run or wait go on, it stays paused if it
    /// is, and its new times begin now. An update to the same specification changes nothing.
    ///
    /// # Errors
    /// As for [`start`](Self::start); [`NotFound`](ClientError::NotFound); [`NoAnswer`](ClientError::NoAnswer).
    ///
    /// # Cancel safety
    /// Dropped, it may or may not have been sent. Sending it again is harmless.
    pub async fn update<W: Workflow>(self, input: W::Input) -> Result<(), ClientError> {
        let (handle, specification, _) = self.checked::<W>(&input)?;
        send(&handle, &ScheduleCommand::Update(Box::new(specification))).await
    }

    /// Starts the schedule, or updates the one that exists: for programs that say what schedules there are whenever
    /// they begin. Returns once that is durable.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    ///
    /// # Cancel safety
    /// Dropped, it may or may not have been sent. Sending it again is harmless.
    pub async fn start_or_update<W: Workflow>(self, input: W::Input) -> Result<(), ClientError> {
        let (handle, specification, paused) = self.checked::<W>(&input)?;
        let update = ScheduleCommand::Update(Box::new(specification.clone()));
        let state = State::new(specification).paused(paused);
        let start = handle.start(ScheduleInput(state)).policy(StartPolicy::RestartEnded);
        start.with_signal(Signal::to_channel(COMMANDS, &update)).await
    }

    fn checked<W: Workflow>(
        self,
        input: &W::Input,
    ) -> Result<(WorkflowHandle<ScheduleWorkflow>, ScheduleSpecification, Option<String>), ClientError> {
        let Self { handle, specification, paused } = self;
        let specification =
            ScheduleSpecification { workflow: W::NAME.to_owned(), input: Payload::encode(input)?, ..specification };
        let id = handle.id().to_owned();
        let invalid = |problem: String| ClientError::InvalidSchedule { id: id.clone(), problem };
        if id.len() > LONGEST_ID {
            return Err(invalid(format!("its id has {} bytes; {LONGEST_ID} are allowed", id.len())));
        }
        let now = partitura_workflow::jiff::Timestamp::UNIX_EPOCH;
        span(&specification, (now, now), 1).map_err(invalid)?;
        Ok((handle, specification, paused))
    }
}

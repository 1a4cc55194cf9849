//! The signs of life of an instance's running tasks, and the next attempt of one whose worker went silent.

use partitura_broker::{Limits, Timestamp};
use partitura_workflow::{EventKind, Failure, FailureKind, Payload};

use super::seal::write;
use super::{Abandoned, Turn};
use crate::storage::heartbeats::{self, Beat};
use crate::task::{letter, policy};
use crate::wire::{ReplyBody, ReplyTo, TaskRequest};
use crate::workflow::instance::{Instance, Notes};
use crate::workflow::{effects, listeners};

/// An attempt of a task, by the run and the number of its call.
#[derive(Clone, Copy)]
pub(super) struct Attempt<'a> {
    pub(super) run: &'a str,
    pub(super) seq: u32,
    pub(super) attempt: u32,
}

impl Turn<'_> {
    /// Answers whether an attempt is still wanted, and takes note of its sign of life, if it is one.
    pub(super) fn heartbeat(
        &mut self,
        of: Attempt<'_>,
        (details, alive, held_up): (Option<Payload>, bool, Option<u64>),
        reply_to: ReplyTo,
    ) -> Result<(), Abandoned> {
        let beat = self.open_task(of.run, of.seq).and_then(|notes| notes.beats().get(&of.seq).cloned());
        // One that was delegated has ended: it does not run a second time where its worker was lost before it was
        // settled.
        let is_over =
            |beat: &Beat| beat.attempt > of.attempt || (beat.attempt == of.attempt && beat.delegation().is_some());
        let superseded = beat.as_ref().is_some_and(is_over);
        let wanted = self.is_task_open(of.run, of.seq) && !superseded;
        let progress = beat.as_ref().and_then(|beat| beat.progress.clone());
        let (details_attempt, last) = progress.map(|progress| (progress.attempt, progress.details)).unzip();
        let answer = ReplyBody::Heartbeat { wanted, details: last, attempt: details_attempt };
        self.after.replies.push((reply_to.clone(), answer));
        if !wanted {
            return Ok(());
        }
        self.after.listening.push((of.run.to_owned(), of.seq, reply_to));
        let says_more = beat.as_ref().is_none_or(|beat| beat.attempt < of.attempt || beat.held_up != held_up);
        let beat = beat.unwrap_or_else(|| Beat::first(of.attempt, self.now));
        if !alive {
            // Kept in memory alone, so that an earlier attempt that turns up now is told, and descriptions name it.
            if says_more && let Some(notes) = self.open_task(of.run, of.seq) {
                notes.beats().insert(of.seq, Beat { attempt: of.attempt, begun: true, held_up, ..beat });
            }
            return Ok(());
        }
        self.note_beat(of, beat, details)
    }

    /// Takes note of a sign of life of an attempt.
    pub(super) fn note_beat(
        &mut self,
        of: Attempt<'_>,
        mut beat: Beat,
        details: Option<Payload>,
    ) -> Result<(), Abandoned> {
        (beat.attempt, beat.begun, beat.at, beat.held_up) = (of.attempt, true, self.now.as_millis(), None);
        beat.progressed(of.attempt, details);
        self.keep(of, beat);
        self.look_later(of.run, of.seq)
    }

    /// The time is over within which a worker was to begin with a task.
    pub(super) fn not_started(&mut self, run: &str, seq: u32) -> Result<(), Abandoned> {
        let Some(notes) = self.open_task(run, seq) else { return Ok(()) };
        if notes.attempt_of(seq).is_some() || notes.detached.contains(&seq) {
            return Ok(());
        }
        let failure = Failure::new(FailureKind::NotStarted, "no worker took it within the time-out for its start");
        self.input(Some(run), EventKind::TaskFailed { seq, failure, attempts: 0 })
    }

    /// A heartbeat of a task may be overdue.
    pub(super) fn heartbeat_due(
        &mut self,
        (run, seq): (&str, u32),
        due: u64,
        message_id: &str,
    ) -> Result<(), Abandoned> {
        let now = self.now.as_millis();
        let key = self.key;
        let Some(notes) = self.open_task(run, seq) else { return Ok(()) };
        if notes.looks().get(&seq).is_some_and(|look| *look > due) {
            // Another owner arranged for this one.
            return Ok(());
        }
        notes.looks().remove(&seq);
        let (Some(request), overdue) = (notes.watched(seq).cloned(), notes.overdue(seq)) else { return Ok(()) };
        let Some(beat) = notes.beats().get(&seq).cloned() else { return Ok(()) };
        if !beat.begun {
            let failed = TaskRequest { attempt: beat.attempt.saturating_sub(1), ..request };
            return self.next_attempt(failed, Timestamp::from_millis(beat.at), None, message_id);
        }
        let Some((at, failure)) = overdue else { return Ok(()) };
        if at.as_millis() > now {
            return self.look_later(run, seq);
        }
        tracing::warn!(instance = %key, seq, attempt = beat.attempt, "an attempt of a task is given up: {failure}");
        let request = TaskRequest { attempt: beat.attempt, ..request };
        // Without jitter: tasks that were lost together wait in the queue anyway.
        match policy::next_attempt(&request, &failure.clone().into(), None, 0.0, self.now) {
            Some(at) => self.next_attempt(request, at, None, message_id),
            None => {
                let source = self.context.directory.service(&request.service)?.source()?;
                // Limits that every broker has.
                let letter = letter::write(
                    self.context.directory.payloads(),
                    &request,
                    (&source, &Limits::default()),
                    &failure,
                    self.now,
                )?;
                self.unit.publish.extend(letter);
                self.input(Some(run), EventKind::TaskFailed { seq, failure, attempts: beat.attempt })
            }
        }
    }

    /// Starts the attempt that follows one that failed, unless that happened already: the same message may come twice,
    /// and the attempt may not have been sent the first time.
    pub(super) fn next_attempt(
        &mut self,
        failed: TaskRequest,
        at: Timestamp,
        details: Option<Payload>,
        message_id: &str,
    ) -> Result<(), Abandoned> {
        let TaskRequest { seq, attempt, .. } = failed;
        let run = failed.run.clone();
        if !self.is_task_open(&run, seq) {
            return Ok(());
        }
        // Of a detached task whose workflow has ended nothing is known.
        let known = self.open_task(&run, seq).and_then(|notes| {
            notes.looks().remove(&seq);
            notes.beats().get(&seq).cloned()
        });
        let mut beat = known.unwrap_or_else(|| Beat::first(attempt, at));
        let is_repeated = !beat.begun && beat.attempt == attempt + 1 && beat.cause.as_deref() == Some(message_id);
        if beat.attempt > attempt && !is_repeated {
            return Ok(());
        }
        beat.progressed(attempt, details);
        beat.cause = Some(message_id.to_owned());
        (beat.attempt, beat.begun, beat.at, beat.held_up) = (attempt + 1, false, at.as_millis(), None);
        let progress = beat.progress.as_ref().map(|progress| progress.details.clone());
        let heartbeat = progress.or_else(|| failed.heartbeat.clone());
        let time_at = self.context.directory.time_at().map(str::to_owned);
        let next = TaskRequest { attempt: attempt + 1, heartbeat, time_at, holder: None, copies: 0, ..failed };
        self.unit.publish.push(effects::attempt(&self.context.directory, next, at, self.now)?);
        // An attempt that is given up may run on; it is to learn that it was.
        self.cancel_task(&run, seq);
        self.keep(Attempt { run: &run, seq, attempt }, beat);
        Ok(())
    }

    /// Gives the state of this task, if its run has not ended and wants it.
    pub(super) fn open_task(&mut self, run: &str, seq: u32) -> Option<&mut Notes> {
        if !self.is_task_open(run, seq) {
            return None;
        }
        match &mut self.instance {
            Instance::Live(live) if !live.summary.status.is_closed() => Some(&mut live.notes),
            Instance::Stopped { summary, notes, .. } if !summary.status.is_closed() => Some(&mut **notes),
            _ => None,
        }
    }

    /// Keeps a sign of life, in memory and beside the history.
    pub(super) fn keep(&mut self, of: Attempt<'_>, mut beat: Beat) {
        if self.open_task(of.run, of.seq).is_none() {
            return;
        }
        let put = beat.put(self.context.turn_store.payloads(), self.key, of.run, of.seq);
        let again = self.unit.put.iter().any(|earlier| earlier.space == put.space && earlier.key == put.key);
        write(&mut self.unit, put);
        // A unit writes a key once.
        beat.version += u64::from(!again);
        if let Some(notes) = self.open_task(of.run, of.seq) {
            notes.beats().insert(of.seq, beat);
        }
    }

    /// Looks after a task when it is overdue, unless it will look before that.
    pub(super) fn look_later(&mut self, run: &str, seq: u32) -> Result<(), Abandoned> {
        let horizon = self.context.directory.horizon(self.now);
        let Some(notes) = self.open_task(run, seq) else { return Ok(()) };
        let Some((at, _)) = notes.overdue(seq) else { return Ok(()) };
        let due = at.min(horizon).as_millis();
        if notes.looks().get(&seq).is_some_and(|look| *look <= due) {
            return Ok(());
        }
        notes.looks().insert(seq, due);
        let look = effects::heartbeat_due(&self.context.directory, self.key, run, (seq, due))?;
        self.unit.publish.push(look);
        Ok(())
    }

    /// Removes what was kept of tasks that ended in this turn, and remembers whom to tell.
    pub(super) fn end_tasks(&mut self, run: &str, (silenced, cancelled_tasks): (Vec<u32>, Vec<u32>)) {
        for seq in silenced {
            write(&mut self.unit, heartbeats::remove(self.key, run, seq));
        }
        for seq in cancelled_tasks {
            self.cancel_task(run, seq);
        }
    }

    /// Has word sent to a task, wherever it listens by now. An attempt that says so later is another one.
    pub(super) fn cancel_task(&mut self, run: &str, seq: u32) {
        let told = self.after.listening.extract_if(.., |(of, number, _)| of == run && *number == seq);
        self.after.replies.extend(told.map(|(_, _, to)| (to, listeners::cancelled())));
        self.after.cancelled_tasks.push((run.to_owned(), seq));
    }
}

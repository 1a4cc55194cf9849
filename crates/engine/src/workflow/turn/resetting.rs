//! How an instance goes on from an earlier event of a history: its own, or that of another instance.

use std::collections::BTreeSet;

use partitura_broker::{Expect, Message};
use partitura_workflow::{Event, EventKind, Execution, Started};

use super::seal::{is_found_otherwise, write};
use super::{Abandoned, Turn};
use crate::code;
use crate::storage::history::{self, History, Place};
use crate::wire::names::InstanceKey;
use crate::wire::summary::Summary;
use crate::wire::{ReplyBody, Request, Reset, events};
use crate::workflow::beginning::beginning;
use crate::workflow::effects::{self, Sender};
use crate::workflow::instance::{Instance, Live, Notes};

/// A history up to an event, as that of a run which goes on from there.
struct Kept {
    events: Vec<Event>,
    /// The tasks that are asked for anew: they were open.
    open: BTreeSet<u32>,
}

impl Turn<'_> {
    /// Begins a run with the history of another up to an event, and lets today's code go on from there. Where that
    /// cannot, nothing is changed.
    pub(super) async fn reset(&mut self, reset: Reset, request: Request) -> Result<(), Abandoned> {
        let body = match self.may_reset(&reset, &request).await? {
            Err(body) => body,
            Ok(expect) => match self.kept(&reset).await? {
                Err(problem) => ReplyBody::Refused(format!("{}: {problem}", self.key)),
                Ok(kept) => match self.replayed(&reset, &kept) {
                    Err(problem) => ReplyBody::Refused(problem),
                    Ok((execution, turn)) => {
                        self.go_on_from(kept, reset, (execution, turn), expect)?;
                        ReplyBody::Accepted
                    }
                },
            },
        };
        self.tell(request.reply_to, body);
        Ok(())
    }

    /// Checks the summary for that; gives the answer if it is refused, or was done before.
    async fn may_reset(&mut self, reset: &Reset, request: &Request) -> Result<Result<Expect, ReplyBody>, Abandoned> {
        let is_fork = reset.id.is_some();
        if self.inert.is_some() {
            return Ok(Err(ReplyBody::Refused(format!("{}: its code cannot run", self.key))));
        }
        let Some(summary) = self.summary() else {
            return Ok(if is_fork { Ok(Expect::Absent) } else { Err(ReplyBody::NotFound) });
        };
        let (run, is_present) = (summary.run.clone(), request.run.as_deref().is_none_or(|run| summary.is_run(run)));
        if run == reset.new_run || self.has_begun(&reset.new_run).await? {
            return Ok(Err(ReplyBody::Accepted));
        }
        Ok(match &self.instance {
            _ if is_fork => {
                Err(ReplyBody::Refused(format!("{} exists already; a fork needs an id of its own", self.key)))
            }
            _ if !is_present => Err(ReplyBody::AnotherRun { run }),
            Instance::Closed { version, .. } => Ok(Expect::Version(*version)),
            _ => Ok(Expect::Any),
        })
    }

    /// The part of the history that is kept, as that of the new run.
    async fn kept(&mut self, reset: &Reset) -> Result<Result<Kept, String>, Abandoned> {
        let source = InstanceKey::new(&self.key.workflow, reset.id.as_deref().unwrap_or(&self.key.id));
        let History { mut events, unreadable, .. } =
            history::load(&self.context.turn_store, &source, &reset.run).await?;
        if let Some(problem) = unreadable {
            return Ok(Err(format!("the history of run {} cannot be read: {problem}", reset.run)));
        }
        let is_of_present = self.summary().is_some_and(|summary| summary.run == reset.run) && reset.id.is_none();
        events.extend(self.recorded.iter().filter(|_| is_of_present).cloned());
        let total = events.len();
        let tail = events.split_off(reset.events.min(total));
        if events.is_empty() || reset.events > total || events.iter().any(|event| event.kind.is_end()) {
            return Ok(Err(format!("run {} has {total} events; keep at least the first, and not its end", reset.run)));
        }
        let open = open_commands(&events);
        for event in &mut events {
            if let EventKind::WorkflowStarted(started) = &mut event.kind {
                adopt(started, self.key, reset);
            }
            let is_again = event.kind.seq().is_some_and(|seq| open.contains(&seq)) && event.kind.is_command();
            // Its time-outs count from now on. Timers keep their moments.
            if is_again && !matches!(event.kind, EventKind::TimerStarted { .. }) {
                event.at = self.now.as_millis().max(event.at);
            }
        }
        let at = self.now.as_millis().max(events.iter().map(|event| event.at).max().unwrap_or_default());
        let (action, reason) = (reset.action.clone(), reset.reason.clone());
        let noted = EventKind::Intervened { action, reason };
        // Signals that came later were sent to the instance, whichever way its code went.
        let signals = tail.into_iter().map(|event| event.kind);
        let signals = signals.filter(|kind| matches!(kind, EventKind::SignalReceived { .. }));
        let then = [noted].into_iter().chain(reset.then.clone()).chain(signals);
        events.extend(then.map(|kind| Event::new(at, kind)));
        Ok(Ok(Kept { events, open }))
    }

    fn replayed(&self, reset: &Reset, kept: &Kept) -> Result<(Execution, partitura_workflow::Turn), String> {
        let replay = || self.run_again(kept.events.clone());
        code::call(self.key, "run, replayed", replay).map_err(|stop| {
            format!("today's code does not go on from event {} of run {}: {stop}", reset.events, reset.run)
        })
    }

    /// Ends the present run, if it has not ended, and begins the new one, in one commit.
    fn go_on_from(
        &mut self,
        Kept { events, open }: Kept,
        reset: Reset,
        (execution, mut turn): (Execution, partitura_workflow::Turn),
        expect: Expect,
    ) -> Result<(), Abandoned> {
        let started = execution.started().clone();
        let before = self.summary().cloned();
        self.hand_over(&reset, &started)?;
        let began = if reset.id.is_some() { self.now.as_millis() } else { events[0].at };
        let mut summary = beginning(&started, before.as_ref().map_or(began, |before| before.started_at));
        if let Some(before) = before {
            summary.first_run = Some(before.first_run.unwrap_or(before.run));
            (summary.awaited_by, summary.detached_before) = (before.awaited_by, before.detached_before);
            summary.indexed = self.summary().map(|sealed| sealed.indexed.clone()).unwrap_or_default();
        }
        is_found_otherwise(&mut summary, &self.context.build, &events);
        let mut notes = Notes::from_history(self.key, &started.run, &events);
        self.publish_kept(&events, &open, (&summary, &notes))?;
        let payloads = self.context.turn_store.payloads();
        let place = Place { turn: 0, before: None, build: &self.context.build };
        let row = history::append(payloads, self.key, &started.run, place, &events);
        notes.bytes = row.value.as_ref().map_or(0, bytes::Bytes::len);
        write(&mut self.unit, row);
        notes.abandon(std::mem::take(&mut turn.abandoned));
        notes.abandon(std::mem::take(&mut turn.dropped_steps));
        notes.take_cancelled_delays();
        let mut live = Live { execution, summary, next_turn: 1, notes };
        self.summarize = Some(expect);
        self.absorb(&mut live, turn);
        self.instance = Instance::Live(Box::new(live));
        Ok(())
    }

    /// The present run ends, as one whose code continues as new: nobody who waits for the outcome is told.
    fn hand_over(&mut self, reset: &Reset, started: &Started) -> Result<(), Abandoned> {
        let continued =
            EventKind::WorkflowContinued { run: reset.new_run.clone(), input: started.input.clone(), version: None };
        let event = Event::new(self.moment(), continued);
        match &self.instance {
            Instance::Live(live) if !live.summary.status.is_closed() => {}
            Instance::Stopped { summary, .. } if !summary.status.is_closed() => {
                if summary.status.reason().is_some() {
                    self.mark_stopped(false);
                }
            }
            _ => return Ok(self.seal()?),
        }
        let run = self.summary().map(|summary| summary.run.clone()).unwrap_or_default();
        self.after.dropped_steps.push((run, None));
        self.recorded.push(event);
        Ok(self.seal()?)
    }

    /// Sends what is asked for anew, and publishes the history as that of the new run.
    fn publish_kept(
        &mut self,
        kept: &[Event],
        open: &BTreeSet<u32>,
        (summary, notes): (&Summary, &Notes),
    ) -> Result<(), Abandoned> {
        let directory = &self.context.directory;
        let trace = self.trace.input();
        let sender = Sender { directory, key: self.key, summary, notes, trace };
        let mut messages: Vec<Message> = Vec::new();
        let is_again =
            |event: &&Event| event.kind.is_command() && event.kind.seq().is_some_and(|seq| open.contains(&seq));
        for event in kept.iter().filter(is_again) {
            sender.add_messages(event, &mut messages)?;
            self.strangers.extend(effects::destination(&event.kind).filter(|to| !directory.knows(to)));
        }
        if self.context.events.is_heard() {
            let (topic, numbered) = (&self.context.events.name, kept.iter().enumerate());
            let of = |(index, event)| events::of_workflow(topic, self.key, (&*summary.run, 0, index), event);
            messages.extend(numbered.map(of));
        }
        self.unit.publish.append(&mut messages);
        Ok(())
    }
}

/// The start of a run that goes on from another. Its time-outs are over, or may be: it has none.
fn adopt(started: &mut Started, key: &InstanceKey, reset: &Reset) {
    started.run.clone_from(&reset.new_run);
    started.id = key.id.to_string();
    (started.deadline, started.run_timeout_ms) = (None, None);
    if reset.id.is_some() {
        (started.parent, started.reply_to) = (None, None);
    }
}

/// The numbers of what was asked for and has neither a result nor been cancelled or detached.
fn open_commands(history: &[Event]) -> BTreeSet<u32> {
    let mut open = BTreeSet::new();
    for Event { kind, .. } in history {
        match kind {
            EventKind::TaskScheduled { seq, .. }
            | EventKind::TimerStarted { seq, .. }
            | EventKind::StepScheduled { seq, .. }
            | EventKind::ChildStarted { seq, detached: false, .. } => {
                open.insert(*seq);
            }
            EventKind::TaskHeartbeat { .. } => {}
            other => {
                other.seq().map(|seq| open.remove(&seq));
            }
        }
    }
    open
}

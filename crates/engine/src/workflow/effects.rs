//! The effect of each recorded event on the world: the messages of a turn.
//!
//! Ids are derived from the run and the event, so that a turn published twice is recognised by its receivers.

use std::time::Duration;

use bytes::Bytes;
use partitura_broker::{Delayed, Message, Result, Timestamp, TopicName};
use partitura_workflow::{Event, EventKind, Failure, FailureKind, ParentEnd, ParentRef, TraceContext};

use crate::messaging::directory::{Destination, Directory};
use crate::storage::children::Child;
use crate::wire::end_signal::EndSignal;
use crate::wire::names::{InstanceKey, check_id, child_run};
use crate::wire::sizes;
use crate::wire::summary::Summary;
use crate::wire::{self, Command, Later, Outcome, Request, Start, StartPolicy, TaskRequest};
use crate::workflow::instance::{Delay, Notes, Purpose, RUN};
use crate::workflow::{end_signals, steps};

/// The instance whose events ask for messages, and what is known of it.
pub(crate) struct Sender<'a> {
    pub(crate) directory: &'a Directory,
    pub(crate) key: &'a InstanceKey,
    pub(crate) summary: &'a Summary,
    pub(crate) notes: &'a Notes,
    /// Where what it asks for stands in a trace.
    pub(crate) trace: Option<&'a TraceContext>,
}

impl Sender<'_> {
    /// Adds the messages that a recorded event asks for.
    pub(crate) fn add_messages(&self, event: &Event, out: &mut Vec<Message>) -> Result<()> {
        let Self { directory, key, notes, .. } = *self;
        let run = &self.summary.run;
        match &event.kind {
            EventKind::TaskScheduled { seq, service, options, .. } => {
                self.add_task(event, *seq, service, out)?;
                let limits =
                    [(Purpose::TaskExpiry, options.overall_timeout), (Purpose::TaskStart, options.start_timeout)];
                for (purpose, limit) in limits {
                    let Some(limit) = limit else { continue };
                    let moment = Moment { purpose, seq: *seq, due: after(event.at, limit), waits: 0 };
                    out.push(wait(directory, key, run, moment, Timestamp::from_millis(event.at))?);
                }
            }
            EventKind::WorkflowStarted(started) => {
                if let Some(due) = started.expires(event.at).map(Timestamp::from_millis) {
                    let moment = Moment { purpose: Purpose::RunExpiry, seq: RUN, due, waits: 0 };
                    out.push(wait(directory, key, run, moment, Timestamp::from_millis(event.at))?);
                }
            }
            EventKind::StepScheduled { seq, .. } => {
                let due = Timestamp::from_millis(event.at) + steps::OVERDUE_AFTER;
                out.push(step_overdue(directory, key, run, (*seq, 0), due)?);
            }
            EventKind::TimerStarted { seq, due_at_ms, .. } => {
                let due = Timestamp::from_millis(*due_at_ms);
                let moment = Moment { purpose: Purpose::Timer, seq: *seq, due, waits: 0 };
                out.push(wait(directory, key, run, moment, Timestamp::from_millis(event.at))?);
            }
            EventKind::ChildStarted { seq, .. } => self.add_child(*seq, &event.kind, out)?,
            EventKind::ChildCancelRequested { seq } => {
                if let Some(child) = notes.children.get(seq) {
                    out.push(cancel_child(directory, run, *seq, child)?);
                }
            }
            EventKind::SignalSent { seq, workflow, id, name, payload } => {
                let request = Request::default();
                let signal = Command::Signal { name: name.clone(), payload: payload.clone(), request };
                out.push(to(directory, workflow, id, format!("{run}.{seq}.s"), &signal)?);
            }
            EventKind::EndRequested { seq, workflow, id, terminate, reason } => {
                let (reason, request) = (reason.clone(), Request::default());
                let command = match terminate {
                    true => Command::Terminate { reason, request },
                    false => Command::Cancel { reason: Some(reason), request },
                };
                out.push(to(directory, workflow, id, format!("{run}.{seq}.r"), &command)?);
            }
            end if end.is_end() => self.add_end(end, out)?,
            _ => {}
        }
        Ok(())
    }

    fn add_task(&self, event: &Event, seq: u32, service: &str, out: &mut Vec<Message>) -> Result<()> {
        let Self { directory, key, notes, .. } = *self;
        let Some(first) = TaskRequest::first(key, &self.summary.run, event) else { return Ok(()) };
        let time_at = directory.time_at().map(str::to_owned);
        let (detached, trace) = (notes.detached.contains(&seq), self.trace.cloned());
        let request = TaskRequest { detached, time_at, trace, ..first };
        let task = request.message(directory.payloads(), directory.service(service)?.tasks);
        out.push(match sizes::check(directory, "its arguments", task.payload.len() + sizes::NEXT_ATTEMPT) {
            Ok(()) => task,
            Err(problem) => refused_task(directory, key, &request, problem)?,
        });
        Ok(())
    }

    fn add_child(&self, seq: u32, started: &EventKind, out: &mut Vec<Message>) -> Result<()> {
        let EventKind::ChildStarted {
            workflow,
            id,
            input,
            detached,
            tags,
            replace,
            use_existing,
            end_channel,
            retry,
            ..
        } = started
        else {
            return Ok(());
        };
        let Self { directory, key, .. } = *self;
        let run = &self.summary.run;
        let end_signal = end_channel.as_ref().map(|channel| EndSignal {
            workflow: key.workflow.to_string(),
            id: key.id.to_string(),
            channel: channel.clone(),
            request: child_run(run, seq),
        });
        let policy = match (*replace, *use_existing) {
            (true, _) => StartPolicy::Replace,
            (false, true) => StartPolicy::UseExisting,
            (false, false) => StartPolicy::Reject,
        };
        let parent = ParentRef { workflow: key.workflow.to_string(), id: key.id.to_string(), run: run.clone(), seq };
        let is_awaited = !detached && !self.notes.detached.contains(&seq);
        let start = Command::Start(Box::new(Start {
            parent: is_awaited.then(|| parent.clone()),
            tags: tags.clone(),
            policy,
            end_signal: end_signal.clone(),
            retry: *retry,
            trace: self.trace.cloned(),
            ..Start::new(child_run(run, seq), input.clone())
        }));
        let start = to(directory, workflow, id, format!("{run}.{seq}.c"), &start)?;
        match check_id(id).and_then(|()| sizes::check(directory, "its input", start.payload.len())) {
            Ok(()) => out.push(start),
            Err(problem) if let Some(told) = end_signal => {
                let failure = Failure::new(FailureKind::Unknown, format!("{workflow}/{id}: {problem}"));
                out.push(end_signals::message(directory, &told, id, &Outcome::Err(failure))?);
            }
            Err(problem) if *detached => tracing::error!(instance = %key, seq, problem, "a child is not started"),
            Err(problem) => {
                let failure = Failure::new(FailureKind::Unknown, format!("{workflow}/{id}: {problem}"));
                out.push(child_done(directory, &parent, &child_run(run, seq), Outcome::Err(failure))?);
            }
        }
        Ok(())
    }

    /// The end of an instance concerns its children and its parents.
    fn add_end(&self, end: &EventKind, out: &mut Vec<Message>) -> Result<()> {
        let Self { directory, summary, notes, .. } = *self;
        let run = &summary.run;
        for (seq, child) in &notes.children {
            match child.on_parent_end {
                ParentEnd::Terminate => out.push(terminate_child(directory, run, *seq, child)?),
                ParentEnd::Abandon => {}
                _ => out.push(cancel_child(directory, run, *seq, child)?),
            }
        }
        let Some(outcome) = Outcome::of_end(end) else { return Ok(()) };
        if let Some(parent) = &summary.parent {
            out.push(child_done(directory, parent, run, outcome.clone())?);
        }
        for told in &summary.end_signals {
            out.push(end_signals::message(directory, told, &summary.id, &outcome)?);
        }
        for parent in &summary.awaited_by {
            out.push(child_done(directory, parent, &child_run(&parent.run, parent.seq), outcome.clone())?);
        }
        Ok(())
    }
}

/// A moment that an instance waits for.
pub(crate) struct Moment {
    /// A timer's, or a time-out of a task.
    pub(crate) purpose: Purpose,
    pub(crate) seq: u32,
    pub(crate) due: Timestamp,
    /// How often the broker's longest delay was waited for already.
    pub(crate) waits: u32,
}

/// Has an instance told that a moment has come. A moment beyond the broker's horizon is waited for again and again.
pub(crate) fn wait(
    directory: &Directory,
    key: &InstanceKey,
    run: &str,
    moment: Moment,
    now: Timestamp,
) -> Result<Message> {
    let Moment { purpose, seq, due, waits } = moment;
    let horizon = directory.horizon(now);
    let later = (due > horizon).then(|| Later { due: due.as_millis(), waits: waits + 1 });
    let run = run.to_owned();
    let (mut id, command) = match purpose {
        Purpose::TaskExpiry => (expiry_id(&run, seq), Command::TaskExpired { run, seq, later }),
        Purpose::TaskStart => (start_id(&run, seq), Command::TaskUnstarted { run, seq, later }),
        Purpose::RunExpiry => (run_expiry_id(&run), Command::RunExpired { run, later }),
        _ => (timer_id(&run, seq), Command::TimerDue { run, seq, later }),
    };
    if waits > 0 {
        id.push_str(&waits.to_string());
    }
    Ok(to_self(directory, key, id, &command)?.not_before(due.min(horizon)))
}

/// Has an instance started at a moment that was beyond the horizon of the broker when it was sent.
pub(crate) fn start_later(directory: &Directory, key: &InstanceKey, start: Start, now: Timestamp) -> Result<Message> {
    let Later { due, waits } = start.later.unwrap_or(Later { due: now.as_millis(), waits: 0 });
    let (due, horizon) = (Timestamp::from_millis(due), directory.horizon(now));
    let later = (due > horizon).then(|| Later { due: due.as_millis(), waits: waits + 1 });
    let id = format!("{}.{waits}", start.run);
    let message = to_self(directory, key, id, &Command::Start(Box::new(Start { later, ..start })))?;
    Ok(message.not_before(due.min(horizon)))
}

fn timer_id(run: &str, seq: u32) -> String {
    format!("{run}.{seq}.t")
}

fn expiry_id(run: &str, seq: u32) -> String {
    format!("{run}.{seq}.x")
}

fn start_id(run: &str, seq: u32) -> String {
    format!("{run}.{seq}.q")
}

fn run_expiry_id(run: &str) -> String {
    format!("{run}.w")
}

fn overdue_id(run: &str, seq: u32, asked: u32) -> String {
    format!("{run}.{seq}.o{asked}")
}

fn heartbeat_id(run: &str, seq: u32, due: u64) -> String {
    format!("{run}.{seq}.b{due}")
}

/// Has an instance look after the heartbeats of a task of its own.
pub(crate) fn heartbeat_due(
    directory: &Directory,
    key: &InstanceKey,
    run: &str,
    (seq, due): (u32, u64),
) -> Result<Message> {
    let command = Command::HeartbeatDue { run: run.to_owned(), seq, due };
    Ok(to_self(directory, key, heartbeat_id(run, seq, due), &command)?.not_before(Timestamp::from_millis(due)))
}

/// An attempt of a task that begins at a moment. A message for a moment beyond the broker's horizon is sent on there.
/// Where the progress of earlier attempts makes it too large, it goes without: the attempt asks its instance for that.
pub(crate) fn attempt(directory: &Directory, request: TaskRequest, at: Timestamp, now: Timestamp) -> Result<Message> {
    let horizon = directory.horizon(now);
    let request = TaskRequest { begins_at: (at > horizon).then_some(at.as_millis()), ..request };
    let topic = directory.service(&request.service)?.tasks;
    let mut message = request.message(directory.payloads(), topic.clone());
    if request.heartbeat.is_some() && message.payload.len() > directory.payload_limit() {
        message = TaskRequest { heartbeat: None, ..request }.message(directory.payloads(), topic);
    }
    Ok(message.not_before(at.min(horizon)))
}

/// A delayed message that an instance has sent to itself, as it was published.
pub(crate) fn delayed(commands: &TopicName, key: &InstanceKey, run: &str, seq: u32, delay: Delay) -> Delayed {
    let id = match delay.purpose {
        Purpose::Timer => timer_id(run, seq),
        Purpose::TaskExpiry => expiry_id(run, seq),
        Purpose::TaskStart => start_id(run, seq),
        Purpose::StepOverdue => overdue_id(run, seq, 0),
        Purpose::HeartbeatDue => heartbeat_id(run, seq, delay.due),
        Purpose::RunExpiry => run_expiry_id(run),
    };
    Delayed {
        topic: commands.clone(),
        key: Some(Bytes::copy_from_slice(key.id.as_bytes())),
        id: id.into(),
        not_before: Timestamp::from_millis(delay.due),
    }
}

/// Whom an event sends something, other than to those that sent something before.
pub(crate) fn destination(event: &EventKind) -> Option<Destination> {
    match event {
        EventKind::TaskScheduled { service, .. } => Some(Destination::Service(service.clone())),
        EventKind::ChildStarted { workflow, .. }
        | EventKind::SignalSent { workflow, .. }
        | EventKind::EndRequested { workflow, .. } => Some(Destination::Workflow(workflow.clone())),
        _ => None,
    }
}

/// Has an instance look after a step of its own when it is `due`, for the `asked`th time.
pub(crate) fn step_overdue(
    directory: &Directory,
    key: &InstanceKey,
    run: &str,
    (seq, asked): (u32, u32),
    due: Timestamp,
) -> Result<Message> {
    let overdue = Command::StepOverdue { run: run.to_owned(), seq, asked };
    let message = to_self(directory, key, overdue_id(run, seq, asked), &overdue)?;
    Ok(message.not_before(due))
}

/// How soon an instance whose code cannot go on tries again, and how seldom at last: another worker's code may do.
const TRY_AGAIN: Duration = Duration::from_secs(30);
const TRY_AGAIN_AT_MOST: Duration = Duration::from_secs(600);

/// Has a stopped instance try again by itself, when it was tried so often before. `turn` makes one stop of a run
/// different from the next.
pub(crate) fn try_again(
    directory: &Directory,
    key: &InstanceKey,
    run: &str,
    (turn, tried): (u32, u32),
    from: Timestamp,
) -> Result<Message> {
    let again = Command::TryAgain { run: run.to_owned(), tried };
    let message = to_self(directory, key, format!("{run}.{turn}.w{tried}"), &again)?;
    let wait = TRY_AGAIN.saturating_mul(2_u32.saturating_pow(tried)).min(TRY_AGAIN_AT_MOST);
    Ok(message.not_before(from + wait))
}

/// Tells a parent how its child ended.
pub(crate) fn child_done(
    directory: &Directory,
    parent: &ParentRef,
    child_run: &str,
    outcome: Outcome,
) -> Result<Message> {
    let done = |outcome| {
        let done = Command::ChildDone { run: parent.run.clone(), seq: parent.seq, outcome };
        to(directory, &parent.workflow, &parent.id, format!("{child_run}.e"), &done)
    };
    let kind = match &outcome {
        Outcome::Ok(_) => FailureKind::Unknown,
        Outcome::Err(failure) => failure.kind,
    };
    let message = done(outcome)?;
    match sizes::check(directory, "the child ended, but its outcome and what goes with it", message.payload.len()) {
        Ok(()) => Ok(message),
        Err(problem) => done(Outcome::Err(Failure::new(kind, format!("{problem}; the child's history has it")))),
    }
}

/// Tells a workflow that the broker would not take a task of it.
fn refused_task(directory: &Directory, key: &InstanceKey, task: &TaskRequest, problem: String) -> Result<Message> {
    let TaskRequest { run, seq, service, method, .. } = task;
    let outcome = Outcome::Err(Failure::new(FailureKind::Unknown, format!("{service}.{method}: {problem}")));
    let done = Command::TaskDone { run: run.clone(), seq: *seq, attempts: 0, outcome, completion: None };
    to_self(directory, key, format!("{run}.{seq}.d"), &done)
}

fn cancel_child(directory: &Directory, run: &str, seq: u32, child: &Child) -> Result<Message> {
    let reason = Some("its parent was cancelled or has ended".to_owned());
    let request = Request { run: Some(Child::run(run, seq)), ..Request::default() };
    to(directory, &child.workflow, &child.id, format!("{run}.{seq}.a"), &Command::Cancel { reason, request })
}

fn terminate_child(directory: &Directory, run: &str, seq: u32, child: &Child) -> Result<Message> {
    let reason = "its parent has ended".to_owned();
    let request = Request { run: Some(Child::run(run, seq)), ..Request::default() };
    to(directory, &child.workflow, &child.id, format!("{run}.{seq}.k"), &Command::Terminate { reason, request })
}

fn to_self(directory: &Directory, key: &InstanceKey, message_id: String, command: &Command) -> Result<Message> {
    to(directory, &key.workflow, &key.id, message_id, command)
}

fn to(directory: &Directory, workflow: &str, id: &str, message_id: String, command: &Command) -> Result<Message> {
    let topic = directory.workflow(workflow)?.commands;
    Ok(wire::command(directory.payloads(), &topic, id, message_id, command))
}

fn after(at: u64, duration: Duration) -> Timestamp {
    Timestamp::from_millis(at) + duration
}

//! One turn of an instance: commands in, one commit out.

use std::sync::Arc;

use partitura_broker::{AckToken, ErrorKind, Expect, Message, Put, Result, Timestamp, Unit, Version};
use partitura_workflow::{
    Definition, Event, EventKind, Execution, Failure, FailureKind, Payload, Started, Step, Stop, StopReason,
};
use uuid::Uuid;

use crate::directory::{Destination, Directory};
use crate::events::EventTopic;
use crate::instance::{Live, Notes, beginning};
use crate::journal::Journal;
use crate::names::InstanceKey;
use crate::summary::{Status, Summary};
use crate::wire::{Command, Outcome, ReplyBody, ReplyTo, Start, StartPolicy};
use crate::{effects, events, history};

/// What a turn works on.
pub(crate) enum Instance {
    /// Nothing is known yet.
    Unknown,
    /// There is none: for certain, or assumed of a start, which the store then confirms.
    Absent,
    Live(Box<Live>),
    /// Its code cannot go on; inputs are kept.
    Stopped {
        summary: Box<Summary>,
        next_turn: u32,
    },
    Closed {
        summary: Box<Summary>,
        version: Version,
    },
}

/// What a turn needs from outside and shares with all others of the workflow.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) definition: Definition,
    pub(crate) topics: crate::names::WorkflowTopics,
    pub(crate) journal: Journal,
    pub(crate) directory: Arc<Directory>,
    pub(crate) events: EventTopic,
}

/// Collects what the commands of one batch lead to. Nothing has happened until [`Context`]'s journal has committed it.
pub(crate) struct Turn<'a> {
    context: &'a Context,
    key: &'a InstanceKey,
    now: Timestamp,
    /// Whether a start may assume that there is no instance yet.
    optimistic: bool,
    pub(crate) instance: Instance,
    /// Events of the present run that are not in `unit` yet.
    recorded: Vec<Event>,
    /// The summary is to be written with them, if this holds.
    summarize: Option<Expect>,
    unit: Unit,
    /// To be sent once the turn is committed.
    pub(crate) replies: Vec<(ReplyTo, ReplyBody)>,
    /// To be run once the turn is committed.
    pub(crate) steps: Vec<(String, Step)>,
    /// Who is to be told the outcome later.
    pub(crate) waiters: Vec<ReplyTo>,
    /// The outcome, if the turn ended the instance.
    pub(crate) ended: Option<Outcome>,
    /// The outcome of an earlier run that a new one replaced, and who of this turn waits for it.
    pub(crate) replaced: Option<(Outcome, Vec<ReplyTo>)>,
    /// Whom the turn sends something for the first time in this process.
    strangers: Vec<Destination>,
}

/// Why a turn was given up; nothing of it was committed.
pub(crate) enum Abandoned {
    /// The store, or what is stored.
    Failed(partitura_broker::Error),
    /// The code.
    Stopped(Stop),
    /// The command: it does not fit the instance, and never will.
    Refused(String),
}

impl From<partitura_broker::Error> for Abandoned {
    fn from(error: partitura_broker::Error) -> Self {
        Self::Failed(error)
    }
}

impl<'a> Turn<'a> {
    pub(crate) fn new(context: &'a Context, key: &'a InstanceKey, now: Timestamp, instance: Instance) -> Self {
        Self {
            context,
            key,
            now,
            optimistic: true,
            instance,
            recorded: Vec::new(),
            summarize: None,
            unit: Unit::default(),
            replies: Vec::new(),
            steps: Vec::new(),
            waiters: Vec::new(),
            ended: None,
            replaced: None,
            strangers: Vec::new(),
        }
    }

    pub(crate) fn key(&self) -> &'a InstanceKey {
        self.key
    }

    /// Takes nothing for granted: what is stored counts.
    pub(crate) fn certain(mut self) -> Self {
        self.optimistic = false;
        self.instance = Instance::Unknown;
        self
    }

    /// The turn of an instance that cannot go on: the input is kept, and the code goes on from there once it is repaired.
    pub(crate) async fn stopped(
        context: &'a Context,
        key: &'a InstanceKey,
        now: Timestamp,
        (command, message_id): (Command, &str),
        stop: &Stop,
    ) -> Result<Self, Abandoned> {
        let mut turn = Self::new(context, key, now, Instance::Unknown);
        let status = Status::Stopped { reason: stop.to_string() };
        match history::summary(&context.journal, key).await? {
            None => match turn.handle(command, message_id).await {
                // It went well this time.
                Ok(()) => return Ok(turn),
                Err(Abandoned::Stopped(_)) => {
                    if let Instance::Stopped { summary, .. } = &mut turn.instance {
                        summary.status = status;
                    }
                }
                Err(failed) => return Err(failed),
            },
            Some((_, summary)) => {
                let (_, next_turn) = history::load(&context.journal, key, &summary.run).await?;
                turn.instance = Instance::Stopped { summary: Box::new(Summary { status, ..summary }), next_turn };
                turn.summarize = Some(Expect::Any);
                if !matches!(command, Command::Resume) {
                    turn.handle(command, message_id).await?;
                }
            }
        }
        let still = turn.summary().is_some_and(|summary| matches!(summary.status, Status::Stopped { .. }));
        write(&mut turn.unit, history::mark_stopped(key, still));
        Ok(turn)
    }

    /// What is to be committed, with the deliveries that it settles. `None`: nothing changed.
    pub(crate) async fn finish(&mut self, settle: Vec<AckToken>) -> Result<Option<Unit>> {
        self.seal()?;
        for stranger in std::mem::take(&mut self.strangers) {
            self.context.directory.meet(&stranger).await?;
        }
        let mut unit = std::mem::take(&mut self.unit);
        if unit.put.is_empty() && unit.publish.is_empty() {
            return Ok(None);
        }
        unit.settle = settle;
        Ok(Some(unit))
    }

    /// Handles one command. `message_id` is that of the message that carried it.
    pub(crate) async fn handle(&mut self, command: Command, message_id: &str) -> Result<(), Abandoned> {
        if matches!(self.instance, Instance::Unknown) {
            match &command {
                // A new instance is the usual case; where it is not, the commit conflicts and the turn is taken again.
                Command::Start(start) if self.optimistic && start.policy != StartPolicy::Replace => {
                    self.instance = Instance::Absent;
                }
                _ => self.load().await?,
            }
        }
        match command {
            Command::Start(start) => self.start(*start).await,
            Command::Signal { name, payload } => {
                let seen =
                    matches!(&self.instance, Instance::Live(live) if live.execution.has_seen_message(message_id));
                let message_id = message_id.to_owned();
                if seen { Ok(()) } else { self.input(None, EventKind::SignalReceived { name, payload, message_id }) }
            }
            Command::Cancel { run, reason } => self.input(run.as_deref(), EventKind::CancelRequested { reason }),
            Command::Terminate { reason } => self.terminate(&reason),
            Command::TaskDone { run, seq, attempts, outcome } => {
                let event = match outcome {
                    Outcome::Ok(result) => EventKind::TaskCompleted { seq, result },
                    Outcome::Err(failure) => EventKind::TaskFailed { seq, failure, attempts },
                };
                self.input(Some(&run), event)
            }
            Command::TaskExpired { run, seq } => {
                let failure = Failure::new(FailureKind::TimedOut, "no result within the overall time-out");
                self.input(Some(&run), EventKind::TaskFailed { seq, failure, attempts: 0 })
            }
            Command::TimerDue { run, seq } => self.input(Some(&run), EventKind::TimerFired { seq }),
            Command::ChildDone { run, seq, outcome } => {
                let event = match outcome {
                    Outcome::Ok(result) => EventKind::ChildCompleted { seq, result },
                    Outcome::Err(failure) => EventKind::ChildFailed { seq, failure },
                };
                self.input(Some(&run), event)
            }
            Command::StepDone { run, seq, outcome } => {
                let event = match outcome {
                    Outcome::Ok(result) => EventKind::StepCompleted { seq, result },
                    Outcome::Err(failure) => EventKind::StepFailed { seq, failure },
                };
                self.input(Some(&run), event)
            }
            Command::Heartbeat { run, seq, attempt, details, alive, reply_to } => {
                self.heartbeat(&run, seq, attempt, details, alive, reply_to)
            }
            Command::Resume => self.resume().await,
            Command::Query { name, args, reply_to } => {
                let body = self.query(&name, &args);
                self.replies.push((reply_to, body));
                Ok(())
            }
            Command::Await { reply_to } => {
                match &self.instance {
                    Instance::Absent | Instance::Unknown => self.replies.push((reply_to, ReplyBody::NotFound)),
                    Instance::Closed { summary, .. } => {
                        self.replies.extend(summary.outcome().map(|outcome| (reply_to, ReplyBody::Ended(outcome))));
                    }
                    Instance::Live(_) | Instance::Stopped { .. } => match &self.ended {
                        Some(outcome) => self.replies.push((reply_to, ReplyBody::Ended(outcome.clone()))),
                        None => self.waiters.push(reply_to),
                    },
                }
                Ok(())
            }
            Command::Describe { reply_to } => {
                let body = self
                    .summary()
                    .map_or(ReplyBody::NotFound, |summary| ReplyBody::Description(Box::new(summary.clone())));
                self.replies.push((reply_to, body));
                Ok(())
            }
            Command::History { reply_to } => {
                let body = match self.summary().map(|summary| summary.run.clone()) {
                    None => ReplyBody::NotFound,
                    Some(run) => {
                        let (mut events, _) = history::load(&self.context.journal, self.key, &run).await?;
                        events.extend(self.recorded.iter().cloned());
                        ReplyBody::History(events)
                    }
                };
                self.replies.push((reply_to, body));
                Ok(())
            }
            Command::List { filter, reply_to } => {
                let mut found = Vec::new();
                let limit = filter.limit.clamp(1, 1_000);
                let mut after = filter.after.clone();
                loop {
                    let page = history::page(&self.context.journal, &self.key.workflow, after.as_deref()).await?;
                    after = page.0.last().map(|summary| summary.id.clone());
                    found.extend(page.0.into_iter().filter(|summary| filter.matches(summary)));
                    if !page.1 || found.len() >= limit {
                        break;
                    }
                }
                found.truncate(limit);
                self.replies.push((reply_to, ReplyBody::Listing(found)));
                Ok(())
            }
        }
    }

    pub(crate) fn summary(&self) -> Option<&Summary> {
        match &self.instance {
            Instance::Unknown | Instance::Absent => None,
            Instance::Live(live) => Some(&live.summary),
            Instance::Stopped { summary, .. } | Instance::Closed { summary, .. } => Some(summary),
        }
    }

    /// Reads the instance from the store, and replays it if it is running.
    async fn load(&mut self) -> Result<(), Abandoned> {
        let journal = &self.context.journal;
        let Some((version, summary)) = history::summary(journal, self.key).await? else {
            self.instance = Instance::Absent;
            return Ok(());
        };
        journal.recover(history::run_prefix(self.key, &summary.run)).await?;
        let summary = Box::new(summary);
        self.instance = match summary.status {
            Status::Running => Instance::Live(Box::new(self.replay(*summary).await?)),
            Status::Stopped { .. } => {
                let (_, next_turn) = history::load(journal, self.key, &summary.run).await?;
                Instance::Stopped { summary, next_turn }
            }
            _ => Instance::Closed { summary, version },
        };
        Ok(())
    }

    /// Rebuilds a live instance. What its code asks for beyond the history is recorded in this turn.
    async fn replay(&mut self, summary: Summary) -> Result<Live, Abandoned> {
        let (events, next_turn) = history::load(&self.context.journal, self.key, &summary.run).await?;
        let notes = Notes::of(&summary.run, &events);
        let (execution, turn) = Execution::replay(&self.context.definition, events).map_err(Abandoned::Stopped)?;
        let mut live = Live { execution, summary, next_turn, notes };
        self.absorb(&mut live, turn);
        Ok(live)
    }

    async fn start(&mut self, start: Start) -> Result<(), Abandoned> {
        let existing = self.summary().map(|summary| (summary.run.clone(), summary.status.is_closed()));
        let expect = match existing {
            None => Expect::Absent,
            Some((run, _)) if run == start.run => return self.already_started(start),
            Some((run, closed)) => match (start.policy, &start.parent) {
                (StartPolicy::UseExisting, _) => return self.already_started(start),
                (StartPolicy::Reject, Some(parent)) => {
                    let message = format!("{} exists already; a child needs an id of its own", self.key);
                    let outcome = Outcome::Err(Failure::new(FailureKind::Unknown, message));
                    self.unit.publish.push(effects::child_done(&self.context.directory, parent, &start.run, outcome)?);
                    return Ok(());
                }
                (StartPolicy::Reject, None) => {
                    self.replies.extend(start.accepted.map(|to| (to, ReplyBody::Rejected { run })));
                    return Ok(());
                }
                (StartPolicy::Replace, _) => {
                    if !closed {
                        self.terminate("it was replaced by a new start of the same id")?;
                        self.seal()?;
                        self.replaced = self.ended.take().map(|outcome| (outcome, std::mem::take(&mut self.waiters)));
                    }
                    match &self.instance {
                        Instance::Closed { version, .. } => Expect::Version(*version),
                        _ => Expect::Any,
                    }
                }
            },
        };
        let started = Started {
            workflow: self.key.workflow.to_string(),
            id: self.key.id.to_string(),
            seed: Uuid::parse_str(&start.run).unwrap_or_default().as_u64_pair().1,
            run: start.run.clone(),
            input: start.input,
            parent: start.parent,
            reply_to: start.reply_to.map(String::from),
            tags: start.tags,
        };
        self.replies.extend(start.accepted.map(|to| (to, ReplyBody::Accepted)));
        let at = self.now.as_millis();
        let summary = beginning(&started, at);
        let event = Event::new(at, EventKind::WorkflowStarted(Box::new(started)));
        self.summarize = Some(expect);
        self.recorded.push(event.clone());
        match Execution::start(&self.context.definition, event) {
            Ok((execution, turn)) => {
                let mut live = Live { execution, summary, next_turn: 0, notes: Notes::default() };
                self.absorb(&mut live, turn);
                self.instance = Instance::Live(Box::new(live));
                Ok(())
            }
            Err(stop) => {
                // Kept here so that `stop` can record the start and the reason.
                self.instance = Instance::Stopped { summary: Box::new(summary), next_turn: 0 };
                Err(Abandoned::Stopped(stop))
            }
        }
    }

    fn already_started(&mut self, start: Start) -> Result<(), Abandoned> {
        self.replies.extend(start.accepted.map(|to| (to, ReplyBody::Accepted)));
        match (start.reply_to, &self.instance, &self.ended) {
            (Some(to), Instance::Closed { summary, .. }, _) => {
                self.replies.extend(summary.outcome().map(|outcome| (to, ReplyBody::Ended(outcome))));
            }
            (Some(to), _, Some(outcome)) => self.replies.push((to, ReplyBody::Ended(outcome.clone()))),
            (Some(to), _, None) => self.waiters.push(to),
            (None, ..) => {}
        }
        Ok(())
    }

    /// Applies an input, if it is for this run and the instance is open.
    fn input(&mut self, run: Option<&str>, kind: EventKind) -> Result<(), Abandoned> {
        let event = Event::new(self.now.as_millis(), kind);
        match &mut self.instance {
            Instance::Unknown | Instance::Absent | Instance::Closed { .. } => Ok(()),
            Instance::Stopped { summary, .. } => {
                if run.is_none_or(|run| run == summary.run) {
                    self.recorded.push(event);
                }
                Ok(())
            }
            Instance::Live(live) => {
                if run.is_some_and(|run| run != live.summary.run) || live.summary.status.is_closed() {
                    return Ok(());
                }
                let turn = match live.execution.apply(event.clone()) {
                    Ok(turn) => turn,
                    // It was not applied, and the instance is as before.
                    Err(Stop { reason: StopReason::BadInput { problem }, .. }) => {
                        return Err(Abandoned::Refused(problem));
                    }
                    Err(stop) => return Err(Abandoned::Stopped(stop)),
                };
                if turn.ignored {
                    return Ok(());
                }
                let Instance::Live(mut live) = std::mem::replace(&mut self.instance, Instance::Unknown) else {
                    return Ok(());
                };
                live.notes.record(&live.summary.run, &event.kind);
                self.recorded.push(event);
                self.absorb(&mut live, turn);
                self.instance = Instance::Live(live);
                Ok(())
            }
        }
    }

    /// Takes over what the code asked for.
    fn absorb(&mut self, live: &mut Live, turn: partitura_workflow::Turn) {
        for event in &turn.events {
            if event.kind.is_end() {
                self.end(live, event);
            }
        }
        let run = &live.summary.run;
        self.steps.extend(turn.steps.into_iter().map(|step| (run.clone(), step)));
        self.recorded.extend(turn.events);
    }

    fn end(&mut self, live: &mut Live, event: &Event) {
        live.summary.close(event.at, &event.kind);
        self.ended = Outcome::of_end(&event.kind);
        self.summarize.get_or_insert(Expect::Any);
        let reply_to = live.execution.started().reply_to.clone();
        self.waiters.extend(reply_to.and_then(|to| ReplyTo::try_from(to).ok()));
    }

    fn terminate(&mut self, reason: &str) -> Result<(), Abandoned> {
        let failure = Failure::new(FailureKind::Terminated, reason);
        let event = Event::new(self.now.as_millis(), EventKind::WorkflowFailed { failure });
        match std::mem::replace(&mut self.instance, Instance::Unknown) {
            Instance::Live(mut live) if !live.summary.status.is_closed() => {
                self.end(&mut live, &event);
                self.recorded.push(event);
                self.instance = Instance::Live(live);
            }
            Instance::Stopped { mut summary, next_turn } => {
                summary.close(event.at, &event.kind);
                self.ended = Outcome::of_end(&event.kind);
                self.summarize = Some(Expect::Any);
                write(&mut self.unit, history::mark_stopped(self.key, false));
                self.recorded.push(event);
                self.instance = Instance::Stopped { summary, next_turn };
            }
            other => self.instance = other,
        }
        Ok(())
    }

    fn heartbeat(
        &mut self,
        run: &str,
        seq: u32,
        attempt: u32,
        details: Option<Payload>,
        alive: bool,
        reply_to: ReplyTo,
    ) -> Result<(), Abandoned> {
        let (wanted, last) = match &self.instance {
            Instance::Live(live) if live.summary.run == run => {
                let last = live.notes.heartbeats.get(&seq).cloned().flatten();
                (live.execution.is_open(seq), last)
            }
            // It is not known before the code runs again.
            Instance::Stopped { .. } => (true, None),
            _ => (false, None),
        };
        self.replies.push((reply_to, ReplyBody::Heartbeat { wanted, details: last }));
        if !(alive && wanted) {
            return Ok(());
        }
        // Replay passes over heartbeats, so the code is not asked.
        let event = Event::new(self.now.as_millis(), EventKind::TaskHeartbeat { seq, attempt, details });
        if let Instance::Live(live) = &mut self.instance {
            live.notes.record(run, &event.kind);
        }
        self.recorded.push(event);
        Ok(())
    }

    async fn resume(&mut self) -> Result<(), Abandoned> {
        let Instance::Stopped { summary, .. } = &self.instance else { return Ok(()) };
        let mut summary = (**summary).clone();
        summary.status = Status::Running;
        self.seal()?;
        let live = self.replay(summary).await?;
        self.instance = Instance::Live(Box::new(live));
        self.summarize = Some(Expect::Any);
        write(&mut self.unit, history::mark_stopped(self.key, false));
        Ok(())
    }

    fn query(&self, name: &str, args: &Payload) -> ReplyBody {
        match &self.instance {
            Instance::Live(live) => match live.execution.query(name, args) {
                Ok(answer) => ReplyBody::Answer(answer),
                Err(error) => ReplyBody::Refused(error.to_string()),
            },
            Instance::Stopped { summary, .. } => {
                let Status::Stopped { reason } = &summary.status else { return ReplyBody::NotFound };
                ReplyBody::Refused(reason.clone())
            }
            Instance::Closed { .. } => {
                ReplyBody::Refused(format!("{} has ended; its outcome is what is left of it", self.key))
            }
            Instance::Unknown | Instance::Absent => ReplyBody::NotFound,
        }
    }

    /// Turns the recorded events into a row of the history, the messages that they ask for, and the summary.
    fn seal(&mut self) -> Result<()> {
        if self.recorded.is_empty() && self.summarize.is_none() {
            return Ok(());
        }
        let recorded = std::mem::take(&mut self.recorded);
        let (summary, turn) = match &mut self.instance {
            Instance::Live(live) => {
                live.next_turn += 1;
                (&live.summary, live.next_turn - 1)
            }
            Instance::Stopped { summary, next_turn } => {
                *next_turn += 1;
                (&**summary, *next_turn - 1)
            }
            _ => return Ok(()),
        };
        let row = history::append(self.key, &summary.run, turn, &recorded);
        let summarized = self.summarize.take().map(|expect| history::summarize(self.key, expect, summary));
        for put in [Some(row), summarized].into_iter().flatten() {
            write(&mut self.unit, put);
        }
        let mut messages: Vec<Message> = Vec::with_capacity(recorded.len());
        if let Instance::Live(live) = &mut self.instance {
            for event in &recorded {
                effects::of(&self.context.directory, self.key, live, event, &mut messages)?;
                self.strangers.extend(effects::destination(&event.kind).filter(|to| !self.context.directory.knows(to)));
                if event.kind.is_command() {
                    let run = live.summary.run.clone();
                    live.notes.record(&run, &event.kind);
                }
            }
        }
        if self.context.events.is_heard()
            && let Some(summary) = self.summary()
        {
            let topic = &self.context.events.name;
            messages.extend(
                recorded
                    .iter()
                    .enumerate()
                    .map(|(index, event)| events::of_workflow(topic, self.key, (&summary.run, turn, index), event)),
            );
        }
        self.unit.publish.append(&mut messages);
        Ok(())
    }
}

/// Adds a write. Of two to the same key the later value counts, on the earlier condition: a unit names a key once.
fn write(unit: &mut Unit, put: Put) {
    match unit.put.iter_mut().find(|earlier| earlier.space == put.space && earlier.key == put.key) {
        Some(earlier) => earlier.value = put.value,
        None => unit.put.push(put),
    }
}

/// Whether a turn that failed like this is to be taken again at once, from the store.
pub(crate) fn is_conflict(error: &partitura_broker::Error) -> bool {
    error.kind() == ErrorKind::Conflict
}

/// A run for a new start.
pub(crate) fn new_run() -> String {
    Uuid::now_v7().to_string()
}

/// The key of a batch: the workflow is the topic's, the id is the message's key.
pub(crate) fn key_of(workflow: &Arc<str>, message: &Message) -> Result<InstanceKey, String> {
    let id = message.key.as_deref().ok_or("the message has no key; it must be the id of an instance")?;
    let id = std::str::from_utf8(id).map_err(|_| "the message's key is not UTF-8; it must be the id of an instance")?;
    crate::names::check_id(id)?;
    Ok(InstanceKey { workflow: workflow.clone(), id: id.into() })
}

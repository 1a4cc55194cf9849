//! One turn of an instance: commands in, one commit out.

pub(crate) mod after_commit;
mod commands;
pub(crate) mod context;
mod continuing;
mod delegation;
mod expiring;
mod holding;
pub(crate) mod lifecycle;
mod pausing;
mod placing;
mod questions;
mod requests;
mod resetting;
mod seal;
mod signs;
mod starting;
pub(crate) mod trace;

mod updates;

use partitura_broker::{AckToken, Error, ErrorKind, Expect, Result, Timestamp, Unit};
use partitura_workflow::{Event, EventKind, Execution, Step, Stop};
use tokio::time::Instant;

use self::after_commit::{AfterCommit, Finished};
use self::context::Context;
use self::trace::TurnTrace;
use crate::code;
use crate::core::ReplayValues;
use crate::messaging::directory::Destination;
use crate::storage::history;
use crate::storage::history::History;
use crate::telemetry::metrics::{self, Phase, Stopwatch};
use crate::telemetry::spans::silently;
use crate::wire::names::InstanceKey;
use crate::wire::summary::{Status, Summary};
use crate::wire::{Outcome, ReplyTo};
use crate::workflow::instance::{Instance, Live, Notes};

/// How often an instance is read that changes while it is read.
const READS: u32 = 3;

/// How many differences of one replay are logged.
const WARNINGS: usize = 3;

/// How an instance is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// To run its code.
    Live,
    /// To run its code, and this step of it again.
    Step(u32),
    /// To end it, whatever is wrong with its code or its history.
    Inert,
}

/// Collects what the commands of one batch lead to. Nothing has happened until [`Context`]'s turn_store has committed
/// it.
pub(crate) struct Turn<'a> {
    context: &'a Context,
    key: &'a InstanceKey,
    now: Timestamp,
    /// Whether a start may assume that there is no instance yet.
    optimistic: bool,
    /// No code runs: what is stored from now on has this status.
    inert: Option<Status>,
    /// Why the workflow is paused, if it is: no code runs, and instances that something arrives for are paused.
    pub(crate) held: Option<String>,
    /// Since when the partition is ours, where that is known.
    pub(crate) ours_since: Option<Instant>,
    /// A command that this build cannot read is not left to others any more.
    pub(crate) is_last_chance: bool,
    pub(crate) instance: Instance,
    /// Events of the present run that are not in `unit` yet.
    recorded: Vec<Event>,
    /// The summary is to be written with them, if this holds.
    summarize: Option<Expect>,
    unit: Unit,
    /// All that follows the commit.
    pub(crate) after: AfterCommit,
    /// Whom the turn sends something for the first time in this process.
    strangers: Vec<Destination>,
    pub(crate) trace: TurnTrace,
}

/// Why a turn was given up; nothing of it was committed.
pub(crate) enum Abandoned {
    /// The store, or what is stored.
    Failed(partitura_broker::Error),
    /// The code.
    Stopped(Stop),
    /// This build cannot read a result that its code awaits; others may.
    Unread(String),
    /// The command: it does not fit the instance, and never will.
    Refused(String),
    /// The broker refuses what an earlier turn decided to send, and why.
    Undelivered(String),
}

impl From<partitura_broker::Error> for Abandoned {
    fn from(error: partitura_broker::Error) -> Self {
        Self::Failed(error)
    }
}

impl<'a> Turn<'a> {
    pub(crate) fn new(context: &'a Context, key: &'a InstanceKey, instance: Instance) -> Self {
        Self {
            context,
            key,
            now: context.clock.now_rounded_up(),
            optimistic: true,
            inert: None,
            held: None,
            ours_since: None,
            is_last_chance: false,
            instance,
            recorded: Vec::new(),
            summarize: None,
            unit: Unit::default(),
            after: AfterCommit::default(),
            strangers: Vec::new(),
            trace: TurnTrace::default(),
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

    /// Gives what is to be committed, with the deliveries that it settles, and what follows the commit.
    pub(crate) async fn finish(mut self, settle: Vec<AckToken>) -> Result<Finished> {
        self.seal()?;
        for stranger in std::mem::take(&mut self.strangers) {
            self.context.directory.meet(&stranger).await?;
        }
        let open = |(run, step): &(String, Step)| match &self.instance {
            Instance::Live(live) => live.summary.run == *run && live.execution.is_open(step.seq),
            _ => false,
        };
        self.after.steps.retain(open);
        let run = self.summary().map(|summary| summary.run.clone()).unwrap_or_default();
        let changed = !(self.unit.put.is_empty() && self.unit.publish.is_empty());
        let unit = changed.then(|| Unit { settle, ..self.unit });
        Ok(Finished { unit, run, span: self.trace.span(), instance: self.instance, after: self.after })
    }

    pub(crate) fn summary(&self) -> Option<&Summary> {
        match &self.instance {
            Instance::Unknown | Instance::Absent => None,
            Instance::Live(live) => Some(&live.summary),
            Instance::Stopped { summary, .. } | Instance::Closed { summary, .. } => Some(summary),
        }
    }

    /// When what happens now happens: within an instance time never goes backwards, whatever the clocks of its owners
    /// show.
    fn moment(&self) -> u64 {
        let latest = match &self.instance {
            Instance::Live(live) => live.notes.latest,
            Instance::Stopped { notes, .. } => notes.latest,
            Instance::Unknown | Instance::Absent | Instance::Closed { .. } => 0,
        };
        self.now.as_millis().max(latest)
    }

    /// Whether a task of `run` is still wanted: its result is awaited, or it was detached and needs nobody. Of a
    /// stopped instance it is not known before the code runs again what it awaits: all that is open counts, and all
    /// where its history cannot be read.
    pub(crate) fn is_task_open(&self, run: &str, seq: u32) -> bool {
        match &self.instance {
            _ if self.summary().is_some_and(|summary| summary.has_detached_before(run, seq)) => true,
            Instance::Live(live) if live.summary.run == run => {
                live.execution.is_open(seq) || live.notes.detached.contains(&seq)
            }
            Instance::Stopped { summary, notes, .. } if summary.run == run => {
                let open = !summary.status.is_closed() && (notes.unread || notes.tasks.contains_key(&seq));
                open || notes.detached.contains(&seq)
            }
            Instance::Closed { summary, .. } if summary.run == run => summary.detached.contains(&seq),
            _ => false,
        }
    }

    /// Reads the instance from the store, and replays it if it is running and its code is to run.
    async fn load(&mut self, reading: Reading) -> Result<(), Abandoned> {
        let watch = Stopwatch::start();
        let loaded = self.read(reading).await;
        metrics::turn(Phase::Load, watch);
        loaded
    }

    /// The summary names the run, so that it is read before the history. It is compared with what is stored after that:
    /// another owner may have written both in between, and this one would write an outdated summary of a run that goes
    /// on. If it is written later still, so is a row of the history, and the commit is refused.
    async fn read(&mut self, reading: Reading) -> Result<(), Abandoned> {
        let turn_store = &self.context.turn_store;
        for _ in 0..READS {
            let Some((version, summary)) = history::summary(turn_store, self.key).await? else {
                self.instance = Instance::Absent;
                return Ok(());
            };
            let summary = Box::new(summary);
            self.instance = match summary.status {
                Status::Running if reading != Reading::Inert => {
                    let history = history::load(turn_store, self.key, &summary.run).await?;
                    if !history::is_latest(turn_store, self.key, version).await? {
                        continue;
                    }
                    let live = self.replay(*summary, history, reading).await?;
                    if live.execution.is_closed() && !live.summary.status.is_closed() {
                        // The store answers from the past, or has not stored the summary with the end.
                        continue;
                    }
                    Instance::Live(Box::new(live))
                }
                Status::Running | Status::Stopped { .. } | Status::Paused { .. } => {
                    let Known { notes, next_turn, has_ended } = known(self.context, self.key, &summary.run).await?;
                    if has_ended || !history::is_latest(turn_store, self.key, version).await? {
                        continue;
                    }
                    Instance::Stopped { summary, next_turn, notes }
                }
                _ => Instance::Closed { summary, version },
            };
            return Ok(());
        }
        let message = "its history and its summary do not agree; another worker goes on with it, or the store answers \
                       from the past";
        Err(Error::new(ErrorKind::Storage, "load", message).of(self.key).into())
    }

    /// Rebuilds a live instance from its history and what this turn has recorded. Commands of its code beyond that are
    /// recorded in this turn, too.
    async fn replay(&mut self, summary: Summary, history: History, reading: Reading) -> Result<Live, Abandoned> {
        let History { mut events, turns: next_turn, bytes, unreadable } = history;
        if let Some(problem) = unreadable {
            return Err(self.unreadable(&summary.run, problem));
        }
        let stored = events.len();
        events.extend(self.recorded.iter().cloned());
        let mut notes = Notes::from_history(self.key, &summary.run, &events);
        // Events of this turn are counted when it is sealed.
        (notes.events, notes.bytes) = (stored, bytes);
        self.context.history_limits.check(self.key, &notes).map_err(Abandoned::Stopped)?;
        notes.restore_beats(&self.context.turn_store, (self.key, &summary.run), &events).await?;
        let (replayed, watch) = (events.len(), Stopwatch::start());
        let (execution, mut turn) =
            code::call(self.key, "run, replayed", || self.run_again(events)).map_err(Abandoned::Stopped)?;
        metrics::replayed(replayed, watch);
        let mut live = Live { execution, summary, next_turn, notes };
        // The steps of earlier turns run already, here or elsewhere, or are looked after.
        let begun: Vec<u32> = turn.events.iter().filter_map(begun_step).collect();
        turn.steps.retain(|step| begun.contains(&step.seq) || reading == Reading::Step(step.seq));
        // Those of earlier turns were cancelled then, or will fire and be ignored.
        live.notes.abandon(std::mem::take(&mut turn.abandoned));
        live.notes.abandon(std::mem::take(&mut turn.dropped_steps));
        live.notes.take_cancelled_delays();
        self.absorb(&mut live, turn);
        Ok(live)
    }

    /// Code must not run by a history of which it cannot read all: it would go another way. Others may be able to.
    fn unreadable(&self, run: &str, problem: String) -> Abandoned {
        if !self.is_last_chance {
            return Abandoned::Unread(problem);
        }
        let message = format!("a payload in the history of run {run} cannot be read: {problem}");
        Error::new(ErrorKind::Incompatible, "load", message).of(self.key).into()
    }

    fn run_again(&self, events: Vec<Event>) -> Result<(Execution, partitura_workflow::Turn), Stop> {
        let definition = &self.context.definition;
        if self.context.replay_values == ReplayValues::Stop {
            return silently(|| Execution::replay(definition, events));
        }
        let (execution, turn, differences) = silently(|| Execution::replay_and_compare(definition, events))?;
        for difference in differences.iter().take(WARNINGS) {
            tracing::warn!(
                instance = %self.key,
                differences = differences.len(),
                "the code is not deterministic, or was changed: the values of its replay differ at {difference}"
            );
        }
        Ok((execution, turn))
    }

    /// Takes over what the code asked for.
    fn absorb(&mut self, live: &mut Live, mut turn: partitura_workflow::Turn) {
        // The code may have taken its time, and its timers count from when it asked for them.
        let asked = self.context.clock.now_rounded_up().as_millis();
        for event in &mut turn.events {
            match &mut event.kind {
                EventKind::TimerStarted { due_at_ms, after_ms: Some(after), .. } => {
                    *due_at_ms = asked.saturating_add(*after).max(*due_at_ms);
                }
                EventKind::UpdateCompleted { id, result } => {
                    self.after.answered.updates.push((id.clone(), Outcome::Ok(result.clone())));
                }
                EventKind::UpdateFailed { id, failure } => {
                    self.after.answered.updates.push((id.clone(), Outcome::Err(failure.clone())));
                }
                end if end.is_end() => self.end(live, event),
                _ => {}
            }
        }
        live.notes.abandon(turn.abandoned);
        let run = &live.summary.run;
        self.after.dropped_steps.extend(turn.dropped_steps.iter().map(|step| (run.clone(), Some(*step))));
        live.notes.abandon(turn.dropped_steps);
        self.after.steps.extend(turn.steps.into_iter().map(|step| (run.clone(), step)));
        self.recorded.extend(turn.events);
    }

    fn end(&mut self, live: &mut Live, event: &Event) {
        self.after.dropped_steps.push((live.summary.run.clone(), None));
        self.after.answered.ended.push(live.summary.run.clone());
        if event.kind.hands_over() {
            return;
        }
        live.summary.close(event.at, &event.kind);
        self.after.ended = Outcome::of_end(&event.kind);
        self.summarize.get_or_insert(Expect::Any);
        let reply_to = live.execution.started().reply_to.clone();
        self.after.waiters.extend(reply_to.and_then(|to| ReplyTo::try_from(to).ok()));
    }
}

/// The knowledge of the engine about a run without its code.
struct Known {
    notes: Box<Notes>,
    next_turn: u32,
    /// Its history has an end.
    has_ended: bool,
}

/// Reads a run without its code. Of one whose history cannot be read only its children are known.
async fn known(context: &Context, key: &InstanceKey, run: &str) -> Result<Known> {
    match history::load(&context.turn_store, key, run).await {
        Ok(History { events, turns: next_turn, bytes, .. }) => {
            let has_ended = events.last().is_some_and(|event| event.kind.is_end());
            let mut notes = Box::new(Notes::from_history(key, run, &events));
            notes.bytes = bytes;
            notes.restore_beats(&context.turn_store, (key, run), &events).await?;
            Ok(Known { notes, next_turn, has_ended })
        }
        Err(error) if error.is_retryable() => Err(error),
        Err(error) => {
            tracing::warn!(instance = %key, %error, "going on without what is known of its tasks");
            let next_turn = history::turns(&context.turn_store, key, run).await?;
            let mut notes = Box::<Notes>::default();
            notes.unread = true;
            notes.restore_children(&context.turn_store, key, run).await?;
            Ok(Known { notes, next_turn, has_ended: false })
        }
    }
}

/// The step that an event begins.
fn begun_step(event: &Event) -> Option<u32> {
    match &event.kind {
        EventKind::StepScheduled { seq, .. } => Some(*seq),
        _ => None,
    }
}

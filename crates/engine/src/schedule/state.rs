//! The decisions of a schedule: a state machine without I/O. Moments and signals go in, effects come out.

use std::collections::VecDeque;
use std::time::Duration;

use partitura_workflow::jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::description::{ActionEnd, ScheduleDescription, ScheduledStart};
use super::plan::{Plan, Planned, later};
use super::specification::{Overlap, ScheduleSpecification};

/// How many instances may wait for others to end.
pub(super) const WAITING: usize = 1_000;
/// Of how many running instances the schedule awaits the end.
const RUNNING: usize = 1_000;
/// How many instances that have ended are remembered, and how many that wait are named.
const NAMED: usize = 10;
/// A plan with fewer times is followed by another.
const FEW: usize = 3;
/// After how long the times are computed anew: time zones change their rules.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest sleep.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// After how long a plan that failed is tried again.
const REPAIRED: Duration = Duration::from_secs(60 * 60);

/// All that the next run of a schedule has to know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    specification: ScheduleSpecification,
    #[serde(default)]
    paused: Option<String>,
    /// Up to when its times are decided. `None`: it begins now.
    #[serde(default)]
    decided: Option<Timestamp>,
    #[serde(default)]
    remaining: Option<u64>,
    #[serde(default)]
    running: VecDeque<Running>,
    #[serde(default)]
    waiting: VecDeque<Action>,
    #[serde(default)]
    recent: VecDeque<ScheduledStart>,
    #[serde(default)]
    started: u64,
    #[serde(default)]
    skipped: u64,
    #[serde(default)]
    missed: u64,
    #[serde(default)]
    triggered: u64,
}

/// An instance to be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Action {
    id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nominal: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Running {
    start: ScheduledStart,
    /// It was asked to end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    ending: bool,
}

/// An effect on an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    Start(String),
    Cancel(String),
    Terminate(String),
}

impl State {
    pub(super) fn new(specification: ScheduleSpecification) -> Self {
        Self {
            remaining: specification.at_most,
            specification,
            paused: None,
            decided: None,
            running: VecDeque::new(),
            waiting: VecDeque::new(),
            recent: VecDeque::new(),
            started: 0,
            skipped: 0,
            missed: 0,
            triggered: 0,
        }
    }

    pub(super) fn paused(mut self, reason: Option<String>) -> Self {
        self.paused = reason;
        self
    }

    pub(super) fn specification(&self) -> &ScheduleSpecification {
        &self.specification
    }
}

/// A schedule at work.
#[derive(Debug)]
pub(super) struct Machine {
    id: String,
    pub(super) state: State,
    planned: VecDeque<Planned>,
    /// When the plan was made, if there is one; whether it has the last times; what was wrong.
    planned_at: Option<Timestamp>,
    is_last: bool,
    problem: Option<String>,
    effects: Vec<Effect>,
}

impl Machine {
    pub(super) fn new(id: &str, mut state: State, now: Timestamp) -> Self {
        state.decided.get_or_insert(now);
        let (planned, effects) = (VecDeque::new(), Vec::new());
        Self { id: id.to_owned(), state, planned, planned_at: None, is_last: false, problem: None, effects }
    }

    /// From where on a plan is needed now, if one is.
    pub(super) fn needs_plan(&self, now: Timestamp) -> Option<Timestamp> {
        if self.state.paused.is_some() || self.state.remaining == Some(0) {
            return None;
        }
        let is_needed = self.planned_at.is_none_or(|at| match &self.problem {
            Some(_) => later(at, REPAIRED) <= now,
            None => later(at, STALE) <= now || (self.planned.len() < FEW && !self.is_last),
        });
        is_needed.then(|| self.state.decided.unwrap_or(now))
    }

    /// Takes the plan that was asked for.
    pub(super) fn take_plan(&mut self, plan: Result<Plan, String>, now: Timestamp) {
        self.planned_at = Some(now);
        match plan {
            Ok(Plan { times, missed, is_last }) => {
                self.state.missed += missed;
                // The missed times are decided.
                if let Some(first) = times.first().filter(|_| missed > 0) {
                    let before = first.nominal.checked_sub(Duration::from_nanos(1)).ok();
                    self.state.decided = self.state.decided.max(before);
                }
                (self.planned, self.is_last, self.problem) = (times.into(), is_last, None);
            }
            Err(problem) => {
                self.planned.clear();
                self.problem = Some(problem);
            }
        }
    }

    /// When the schedule is to be woken, if nothing is sent to it before.
    pub(super) fn wakes_at(&self) -> Option<Timestamp> {
        if self.state.paused.is_some() || self.state.remaining == Some(0) {
            return None;
        }
        let at = self.planned_at?;
        match (&self.problem, self.planned.front()) {
            (Some(_), _) => Some(later(at, REPAIRED)),
            (None, Some(next)) => Some(next.due.min(later(at, LONGEST))),
            (None, None) => None,
        }
    }

    /// Starts what is due.
    pub(super) fn wake(&mut self, now: Timestamp) {
        while self.state.remaining != Some(0)
            && self.state.paused.is_none()
            && let Some(Planned { nominal, due }) = self.planned.pop_front_if(|next| next.due <= now)
        {
            self.state.decided = self.state.decided.max(Some(nominal));
            if later(due, self.state.specification.catch_up) < now {
                self.state.missed += 1;
                continue;
            }
            let action = Action { id: format!("{}-{nominal}", self.id), nominal: Some(nominal) };
            if self.act(action, self.state.specification.overlap, now)
                && let Some(remaining) = &mut self.state.remaining
            {
                *remaining -= 1;
            }
        }
    }

    /// Takes the effects since the last call.
    pub(super) fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    pub(super) fn pause(&mut self, reason: String) {
        self.state.paused = Some(reason);
        self.forget_plan();
    }

    /// Times until now are not made up for.
    pub(super) fn resume(&mut self, now: Timestamp) {
        if self.state.paused.take().is_some() {
            self.state.decided = Some(now);
            self.forget_plan();
        }
    }

    pub(super) fn trigger(&mut self, now: Timestamp) {
        self.state.triggered += 1;
        let action = Action { id: format!("{}-now-{now}-{}", self.id, self.state.triggered), nominal: None };
        self.act(action, Overlap::AllowAll, now);
    }

    pub(super) fn backfill(&mut self, times: Vec<Timestamp>, overlap: Overlap, now: Timestamp) {
        for nominal in times {
            self.act(Action { id: format!("{}-{nominal}", self.id), nominal: Some(nominal) }, overlap, now);
        }
    }

    pub(super) fn has_problem(&mut self, problem: String) {
        self.problem = Some(problem);
    }

    /// The same specification changes nothing.
    pub(super) fn update(&mut self, specification: ScheduleSpecification, now: Timestamp) {
        if self.state.specification != specification {
            self.state.remaining = specification.at_most;
            self.state.specification = specification;
            self.state.decided = Some(now);
            self.forget_plan();
        }
    }

    fn forget_plan(&mut self) {
        self.planned.clear();
        (self.planned_at, self.is_last, self.problem) = (None, false, None);
    }

    /// An instance has ended.
    pub(super) fn ended(&mut self, id: &str, end: ActionEnd, now: Timestamp) {
        let Some(at) = self.state.running.iter().position(|running| running.start.id == id) else { return };
        if let Some(Running { start, .. }) = self.state.running.remove(at) {
            self.state.recent.push_back(ScheduledStart { ended_at: Some(now), end: Some(end), ..start });
            while self.state.recent.len() > NAMED {
                self.state.recent.pop_front();
            }
        }
        if self.state.running.is_empty()
            && let Some(next) = self.state.waiting.pop_front()
        {
            self.start(next, now);
        }
    }

    /// Starts an instance, or has it wait. `false`: neither.
    fn act(&mut self, action: Action, overlap: Overlap, now: Timestamp) -> bool {
        let is_known = self.state.running.iter().any(|running| running.start.id == action.id)
            || self.state.waiting.iter().any(|waiting| waiting.id == action.id);
        if is_known {
            return false;
        }
        if self.state.running.is_empty() || overlap == Overlap::AllowAll {
            self.start(action, now);
            return true;
        }
        let waiting = self.state.waiting.len();
        match overlap {
            Overlap::BufferOne if waiting == 0 => {}
            Overlap::BufferAll if waiting < WAITING => {}
            Overlap::CancelOther | Overlap::TerminateOther => self.end_others(overlap),
            _ => {
                self.state.skipped += 1;
                return false;
            }
        }
        self.state.waiting.push_back(action);
        true
    }

    /// Asks all that run to end. The starts that waited for that make way.
    fn end_others(&mut self, overlap: Overlap) {
        self.state.skipped += self.state.waiting.len() as u64;
        self.state.waiting.clear();
        for running in self.state.running.iter_mut().filter(|running| !running.ending) {
            running.ending = true;
            let id = running.start.id.clone();
            self.effects.push(match overlap {
                Overlap::TerminateOther => Effect::Terminate(id),
                _ => Effect::Cancel(id),
            });
        }
    }

    fn start(&mut self, Action { id, nominal }: Action, now: Timestamp) {
        self.state.started += 1;
        self.effects.push(Effect::Start(id.clone()));
        let start = ScheduledStart { id, nominal, started_at: now, ended_at: None, end: None };
        self.state.running.push_back(Running { start, ending: false });
        if self.state.running.len() > RUNNING {
            self.state.running.pop_front();
        }
    }

    pub(super) fn describe(&self) -> ScheduleDescription {
        let State { specification, paused, remaining, running, waiting, recent, .. } = &self.state;
        let next = self.planned.iter().filter(|_| *remaining != Some(0)).map(|planned| planned.due);
        let most = remaining.and_then(|remaining| usize::try_from(remaining).ok()).unwrap_or(usize::MAX);
        ScheduleDescription {
            id: self.id.clone(),
            specification: specification.clone(),
            paused: paused.clone(),
            problem: self.problem.clone(),
            next: next.take(NAMED.min(most)).collect(),
            running: running.iter().map(|running| running.start.clone()).collect(),
            waiting: waiting.iter().take(NAMED).map(|action| action.id.clone()).collect(),
            recent: recent.iter().cloned().collect(),
            started: self.state.started,
            skipped: self.state.skipped,
            missed: self.state.missed,
            remaining: *remaining,
        }
    }
}

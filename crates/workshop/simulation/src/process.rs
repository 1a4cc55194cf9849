//! Processes: their effects on the world, and their deaths.
//!
//! A process is a name under which tasks have effects. The tasks of a dead process wait for ever at their next effect,
//! so that its remaining memory has no effect on others.

use std::fmt;
use std::future::pending;
use std::sync::Arc;

use partitura_broker::{Clock, Timestamp};
use tokio::sync::Notify;
use tokio::time::{Duration, sleep};

use crate::agenda::Deed;
use crate::model::process::ProcessState;
use crate::plan::Generation;
use crate::world::{State, World};

/// A process, as its own tasks see it.
#[derive(Clone)]
pub(crate) struct Process {
    pub(crate) world: World,
    pub(crate) id: usize,
    died: Arc<Notify>,
    leaves: Arc<Notify>,
}

impl World {
    /// Makes a process. A mortal one may die at a random effect.
    pub(crate) fn process(&self, name: String, mortal: bool) -> Process {
        let mut state = self.lock();
        let crash = match state.plan.crash_after {
            Some(effects) if mortal && state.chaos => {
                let effects = state.random.between(1, 2 * effects);
                Some((effects, state.random.coin()))
            }
            _ => None,
        };
        // Most die at work; some die while they start.
        let counts = state.random.chance(150);
        let (died, leaves) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        state.note(&name, format_args!("begins"));
        state.processes.push(ProcessState {
            name,
            dead: false,
            mortal,
            clock: 0,
            generation: None,
            paused_until: 0,
            leaves_since: None,
            counts,
            crash,
            died: died.clone(),
            leaves: leaves.clone(),
            resumed: Arc::new(Notify::new()),
        });
        Process { world: self.clone(), id: state.processes.len() - 1, died, leaves }
    }
}

impl Process {
    /// Waits until the process has died.
    pub(crate) async fn died(&self) {
        self.died.notified().await;
    }

    /// Waits until the process is asked to shut down.
    pub(crate) async fn leaves(&self) {
        self.leaves.notified().await;
    }

    /// The generation of its code.
    pub(crate) fn generation(&self) -> Generation {
        let mut state = self.world.lock();
        let drawn = state.plan.generations.clone();
        let drawn = state.random.pick(&drawn);
        let generation = if state.chaos { drawn } else { Generation::Fixed };
        let process = &mut state.processes[self.id];
        process.generation = Some(generation);
        let name = process.name.clone();
        state.note(&name, format_args!("has {generation:?} code"));
        generation
    }

    /// Notes that it has started: from now on its effects count.
    pub(crate) fn begins_to_count(&self) {
        self.world.lock().processes[self.id].counts = true;
    }

    /// Ends the process and its memory, in good order or not.
    pub(crate) fn exit(&self, in_good_order: bool) {
        let mut state = self.world.lock();
        if !in_good_order {
            state.is_lost(self.id);
        }
        state.die(self.id, "exits");
    }

    /// Lets a task end the process. The task does not go on.
    pub(crate) async fn ends_by(&self, task: &str) {
        self.world.lock().crash(self.id, format_args!("is ended by {task}"));
        pending().await
    }

    /// Ends the process from the code of a workflow, until the end of the faults. Nothing that it does has an effect
    /// any more.
    pub(crate) fn ends_by_its_turn(&self) {
        let mut state = self.world.lock();
        if state.chaos && !state.processes[self.id].dead {
            state.audit.doomed_turns += 1;
            state.crash(self.id, "is ended by a turn");
        }
    }

    /// Waits while the process is paused; for ever if it is dead.
    pub(crate) async fn ready(&self) {
        loop {
            let resumed = {
                let state = self.world.lock();
                let process = &state.processes[self.id];
                if !process.dead && process.paused_until <= state.now() {
                    return;
                }
                (!process.dead).then(|| process.resumed.clone())
            };
            match resumed {
                Some(resumed) => resumed.notified().await,
                None => return pending().await,
            }
        }
    }

    /// Has an effect on the world, at once if the process runs: the first poll decides the order. The process may die
    /// before or after the effect. The answer takes time.
    pub(crate) async fn effect<T>(&self, what: impl fmt::Display + Send, act: impl FnOnce(&mut State) -> T) -> T {
        self.ready().await;
        let done = {
            let mut state = self.world.lock();
            match state.fate(self.id) {
                Fate::DiesBefore => {
                    state.crash(self.id, format_args!("crashes before: {what}"));
                    None
                }
                fate => {
                    let name = state.processes[self.id].name.clone();
                    state.note(&name, format_args!("{what}"));
                    let result = act(&mut state);
                    let latency = state.latency();
                    if fate == Fate::DiesAfter {
                        state.crash(self.id, format_args!("crashes after: {what}"));
                    }
                    (fate == Fate::Lives).then_some((result, latency))
                }
            }
        };
        let Some((result, latency)) = done else { return pending().await };
        if latency > 0 {
            sleep(Duration::from_millis(latency)).await;
        }
        self.ready().await;
        result
    }

    /// Has an effect on the world without an answer; none if the process is dead.
    pub(crate) fn effect_now(&self, what: impl fmt::Display, act: impl FnOnce(&mut State)) {
        let mut state = self.world.lock();
        if state.processes[self.id].dead {
            return;
        }
        let fate = state.fate(self.id);
        if fate == Fate::DiesBefore {
            return state.crash(self.id, format_args!("crashes before: {what}"));
        }
        let name = state.processes[self.id].name.clone();
        state.note(&name, format_args!("{what}"));
        act(&mut state);
        if fate == Fate::DiesAfter {
            state.crash(self.id, format_args!("crashes after: {what}"));
        }
    }
}

/// The clock of a process: the wall clock, and its offset.
impl Clock for Process {
    fn now(&self) -> Timestamp {
        let state = self.world.lock();
        let wall = state.wall().as_millis();
        Timestamp::from_millis(wall.saturating_add_signed(state.processes[self.id].clock))
    }

    /// The world's time is whole milliseconds.
    fn now_rounded_up(&self) -> Timestamp {
        self.now()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Lives,
    DiesBefore,
    DiesAfter,
}

impl State {
    /// Whether a worker remains until the end if this process goes.
    pub(crate) fn can_do_without(&self, process: usize) -> bool {
        let goes_on = |other: &ProcessState| !other.dead && other.generation == Some(Generation::Fixed);
        !self.chaos && self.processes[process].is_outdated() && self.processes.iter().any(goes_on)
    }

    /// Whether a process has waited for its running calls as long as it may.
    pub(crate) fn has_drained(&self, process: usize) -> bool {
        let limit = self.plan.drain_within();
        self.processes[process].leaves_since.is_some_and(|since| self.now() >= since + limit)
    }

    /// Where processes crash, one may die at its next effect: between two writes few others would.
    pub(crate) fn may_die_next(&mut self, process: usize) {
        if self.chaos && self.plan.crash_after.is_some() && self.processes[process].mortal && self.random.coin() {
            (self.processes[process].counts, self.processes[process].crash) = (true, Some((1, false)));
        }
    }

    fn fate(&mut self, process: usize) -> Fate {
        let process = &mut self.processes[process];
        match &mut process.crash {
            _ if !process.counts => Fate::Lives,
            Some((left @ 1.., _)) if *left > 1 => {
                *left -= 1;
                Fate::Lives
            }
            Some((_, true)) => Fate::DiesAfter,
            Some((_, false)) => Fate::DiesBefore,
            None => Fate::Lives,
        }
    }

    fn latency(&mut self) -> u64 {
        let longest = self.plan.latency;
        self.random.between(0, longest)
    }

    pub(crate) fn crash(&mut self, process: usize, how: impl fmt::Display) {
        self.is_lost(process);
        self.die(process, how);
    }

    /// Notes the loss of a worker, if the process is one and is not lost already.
    fn is_lost(&mut self, process: usize) {
        if self.processes[process].generation.is_some() && !self.processes[process].dead {
            self.upheaval();
        }
    }

    fn die(&mut self, process: usize, how: impl fmt::Display) {
        if std::mem::replace(&mut self.processes[process].dead, true) {
            return;
        }
        let name = self.processes[process].name.clone();
        self.note(&name, format_args!("{how}"));
        self.processes[process].died.notify_one();
        let longest = self.plan.session;
        let after = self.random.between(0, longest);
        self.later(after, Deed::EndSession { process });
    }

    /// Puts a clock forward, or back; it is never off by more than a minute.
    pub(crate) fn put_clock_forward(&mut self, process: usize, jump: i64) {
        const MOST: i64 = 60_000;
        let clock = &mut self.processes[process].clock;
        *clock = (*clock + jump).clamp(-MOST, MOST);
        self.ahead = self.ahead.max(clock.unsigned_abs());
    }

    /// Pauses the process. If that is longer than its session, the broker gives its partitions to others.
    pub(crate) fn pause(&mut self, process: usize, pause: u64) {
        self.processes[process].paused_until = self.now() + pause;
        self.later(pause, Deed::Resume { process });
        if pause > self.plan.session {
            let rest = pause - self.plan.session;
            self.cut_off(process, rest);
        }
    }

    pub(crate) fn resume(&mut self, process: usize) {
        let process = &mut self.processes[process];
        process.paused_until = 0;
        process.resumed.notify_waiters();
    }

    pub(crate) fn is_paused(&self, process: usize) -> bool {
        self.processes[process].paused_until > self.now()
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Process({})", self.id)
    }
}

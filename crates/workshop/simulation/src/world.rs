//! The world: everything outside of the processes, under one lock, moved by one seed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use partitura_broker::{Timestamp, TopicName};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::agenda::Agenda;
use crate::model::audit::Audit;
use crate::model::group::Group;
use crate::model::inbox::Inboxes;
use crate::model::keys::Keys;
use crate::model::member::Member;
use crate::model::process::ProcessState;
use crate::model::topic::Topic;
use crate::mutant::Mutant;
use crate::plan::Plan;
use crate::random::Random;
use crate::report::Violation;
use crate::trace::Trace;

/// 2027-01-15: the first moment of every world's wall clock.
const ORIGIN: u64 = 1_800_000_000_000;

/// One world. Cheap to clone.
#[derive(Clone)]
pub(crate) struct World(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    start: Instant,
    /// The agenda has changed.
    changed: Notify,
    violated: Notify,
}

/// The state of a world, without the processes.
pub(crate) struct State {
    start: Instant,
    pub(crate) random: Random,
    pub(crate) trace: Trace,
    pub(crate) plan: Plan,
    pub(crate) mutant: Option<Mutant>,
    /// The workflows that workers run.
    pub(crate) workflows: BTreeSet<&'static str>,
    /// Whether there are still faults.
    pub(crate) chaos: bool,
    /// The sum of the wall clock's jumps.
    pub(crate) jumped: u64,
    /// The largest offset of any process's clock so far.
    pub(crate) ahead: u64,
    pub(crate) processes: Vec<ProcessState>,
    pub(crate) topics: BTreeMap<TopicName, Topic>,
    pub(crate) groups: Vec<Group>,
    pub(crate) members: Vec<Member>,
    pub(crate) inboxes: Inboxes,
    pub(crate) keys: Keys,
    pub(crate) agenda: Agenda,
    pub(crate) audit: Audit,
    pub(crate) violation: Option<Violation>,
}

impl World {
    /// It must be called inside of the world's runtime.
    pub(crate) fn new(seed: u64, mutant: Option<Mutant>, keep_trace: bool) -> Self {
        let mut random = Random::new(seed);
        let plan = Plan::draw(&mut random);
        let start = Instant::now();
        let mut state = State {
            start,
            random,
            trace: Trace::new(keep_trace),
            plan,
            mutant,
            workflows: BTreeSet::new(),
            chaos: true,
            jumped: 0,
            ahead: 0,
            processes: Vec::new(),
            topics: BTreeMap::new(),
            groups: Vec::new(),
            members: Vec::new(),
            inboxes: Inboxes::default(),
            keys: Keys::default(),
            agenda: Agenda::default(),
            audit: Audit::default(),
            violation: None,
        };
        let plan = format!("{:?}", state.plan);
        state.note("world", format_args!("{plan}"));
        let (changed, violated) = (Notify::new(), Notify::new());
        Self(Arc::new(Shared { state: Mutex::new(state), start, changed, violated }))
    }

    pub(crate) fn lock(&self) -> Guard<'_> {
        let state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        Guard { before: state.agenda.next(), state, shared: &self.0 }
    }

    /// Waits until this many milliseconds of the world have passed.
    pub(crate) async fn until(&self, at: u64) {
        sleep_until(self.0.start + Duration::from_millis(at)).await;
    }

    /// Carries out the agenda, each deed when it is due. Never ends.
    pub(crate) async fn turn(&self) {
        loop {
            let next = {
                let mut state = self.lock();
                let now = state.now();
                while let Some(deed) = state.agenda.take(now) {
                    state.perform(deed);
                }
                state.agenda.next()
            };
            tokio::select! {
                biased;
                () = self.0.changed.notified() => {}
                () = self.until(next.unwrap_or(u64::from(u32::MAX))) => {}
            }
        }
    }

    /// Waits until an invariant is violated.
    pub(crate) async fn violated(&self) {
        while self.lock().violation.is_none() {
            self.0.violated.notified().await;
        }
    }
}

/// Locks the state. If the agenda was changed, releasing the lock wakes the task that carries it out.
pub(crate) struct Guard<'a> {
    state: MutexGuard<'a, State>,
    before: Option<u64>,
    shared: &'a Shared,
}

impl std::ops::Deref for Guard<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl std::ops::DerefMut for Guard<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if self.state.agenda.next() != self.before {
            self.shared.changed.notify_one();
        }
        if self.state.violation.is_some() {
            self.shared.violated.notify_one();
        }
    }
}

impl State {
    /// Milliseconds since the world began.
    pub(crate) fn now(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    /// The time of the wall clock, which is the broker's: tokio's clock, and the jumps of the seed.
    pub(crate) fn wall(&self) -> Timestamp {
        Timestamp::from_millis(ORIGIN + self.now() + self.jumped)
    }

    pub(crate) fn note(&mut self, actor: &str, what: fmt::Arguments<'_>) {
        let now = self.now();
        self.trace.note(now, actor, what);
    }

    /// Draws whether a fault of this rate happens.
    pub(crate) fn mishap(&mut self, permille: u64) -> bool {
        self.random.chance(permille) && self.chaos
    }

    /// Notes a violated invariant. The first one counts.
    pub(crate) fn violate(&mut self, invariant: &'static str, what: String) {
        self.note("audit", format_args!("VIOLATION of {invariant}: {what}"));
        self.violation.get_or_insert(Violation { invariant, what });
    }

    pub(crate) fn is_mutant(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("World")
    }
}

//! Which processes are crashed where, and what came of it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::check::{left_over, what_happened};
use crate::flaw::Flaw;
use crate::program::PROGRAM;
use crate::stage::{Ending, Mode, Plan};

/// One history of crashes: a process for each, and one that comes to the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) mode: Mode,
    pub(crate) only: Option<String>,
    pub(crate) crashes: Vec<u32>,
    pub(crate) flaw: Option<Flaw>,
}

/// Written so that it can be given back: `two-steps saga 17 4`.
impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = if self.mode == Mode::OneStep { "one-step" } else { "two-steps" };
        write!(f, "{mode} {}", self.only.as_deref().unwrap_or("all"))?;
        self.crashes.iter().try_for_each(|point| write!(f, " {point}"))
    }
}

impl std::str::FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (mode, only, points) = match &words[..] {
            ["one-step", only, points @ ..] => (Mode::OneStep, *only, points),
            ["two-steps", only, points @ ..] => (Mode::TwoSteps, *only, points),
            _ => return Err(format!("{text:?} is not a case; one is `two-steps saga 17 4`")),
        };
        if only != "all" && PROGRAM.iter().all(|number| number.id != only) {
            return Err(format!("there is no number {only:?} in the program"));
        }
        let crashes = points.iter().map(|point| point.parse().map_err(|error| format!("{point:?}: {error}")));
        let crashes = crashes.collect::<Result<_, _>>()?;
        Ok(Self { mode, only: (only != "all").then(|| only.to_owned()), crashes, flaw: None })
    }
}

/// The result of a case.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Where its processes crashed: fewer than wanted, where a run ended before it came so far.
    pub(crate) crashed: Vec<String>,
    /// How many points the last run passed.
    pub(crate) points: u32,
}

impl Case {
    pub(crate) fn run(&self) -> Result<Outcome, String> {
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let (mode, only) = (self.mode, self.only.clone());
        let mut plan =
            Plan { directory: directory.path().to_owned(), mode, only, crash_at: None, flaw: self.flaw, linger: false };
        let mut crashed = Vec::new();
        let failed = |crashed: &Vec<String>, problem: String| {
            format!("after crashes {crashed:?}: {problem}\nTo try it again: CRASH_MATRIX='{self}'")
        };
        for point in &self.crashes {
            plan.crash_at = Some(*point);
            match plan.run().map_err(|problem| failed(&crashed, problem))? {
                Ending::Crashed { at } => crashed.push(at),
                Ending::Finished { .. } => break,
            }
        }
        plan.crash_at = None;
        let points = come_to_the_end(&plan).map_err(|problem| failed(&crashed, problem))?;
        Ok(Outcome { crashed, points })
    }
}

/// How many processes may come to the end before nothing is left over.
const LAST_RUNS: u32 = 3;

/// Gives how many points the run passed.
fn come_to_the_end(plan: &Plan) -> Result<u32, String> {
    let finish = |linger| match (Plan { linger, ..plan.clone() }).run()? {
        Ending::Finished { points } => Ok(points),
        Ending::Crashed { at } => Err(format!("crashed {at} without being told to")),
    };
    let points = finish(false)?;
    what_happened(plan)?;
    for _ in 1..LAST_RUNS {
        if left_over(plan)?.is_empty() {
            return Ok(points);
        }
        // The second copies: they are received by those who had the first, and change nothing.
        finish(true)?;
        what_happened(plan).map_err(|problem| format!("after what was left over: {problem}"))?;
    }
    let left = left_over(plan)?;
    if left.is_empty() { Ok(points) } else { Err(format!("left over for ever: {left:?}")) }
}

/// The results of many cases.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) cases: u32,
    /// How often the process crashed where.
    pub(crate) crashes: BTreeMap<String, u32>,
    pub(crate) problems: Vec<String>,
}

impl Findings {
    fn note(&mut self, result: Result<Outcome, String>) {
        self.cases += 1;
        match result {
            Ok(outcome) => outcome.crashed.into_iter().for_each(|at| *self.crashes.entry(at).or_default() += 1),
            Err(problem) => self.problems.push(problem),
        }
    }

    pub(crate) fn must_be_good(&self) {
        let shown = self.problems.iter().take(3).cloned().collect::<Vec<_>>().join("\n\n");
        assert!(self.problems.is_empty(), "{} of {} cases failed:\n{shown}", self.problems.len(), self.cases);
    }
}

/// How many runs in a row have to end before their point is reached: how many points there are varies a little.
const ENOUGH: u32 = 6;

/// Crashes at every point there is: at the first, the second, and so on, until runs end before they come so far.
pub(crate) fn at_every_point(mode: Mode, only: Option<&str>, flaw: Option<Flaw>) -> Findings {
    let (next, missed) = (AtomicU32::new(1), AtomicU32::new(0));
    in_parallel(|findings| {
        while missed.load(Ordering::Relaxed) < ENOUGH && locked(findings).problems.is_empty() {
            let point = next.fetch_add(1, Ordering::Relaxed);
            let result = Case { mode, only: only.map(str::to_owned), crashes: vec![point], flaw }.run();
            if result.as_ref().is_ok_and(|outcome| outcome.crashed.is_empty()) {
                missed.fetch_add(1, Ordering::Relaxed);
            } else {
                missed.store(0, Ordering::Relaxed);
            }
            locked(findings).note(result);
        }
    })
}

pub(crate) fn all_of(cases: &[Case]) -> Findings {
    let next = AtomicUsize::new(0);
    in_parallel(|findings| {
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let result = case.run();
            locked(findings).note(result);
        }
    })
}

/// Most of a case is waiting for the disk.
fn in_parallel(work: impl Fn(&Mutex<Findings>) + Sync) -> Findings {
    let findings = Mutex::default();
    let threads = thread::available_parallelism().map_or(2, usize::from) + 1;
    thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(|| work(&findings)))));
    findings.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn locked(findings: &Mutex<Findings>) -> MutexGuard<'_, Findings> {
    findings.lock().unwrap_or_else(PoisonError::into_inner)
}

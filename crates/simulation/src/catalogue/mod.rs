//! The workflows of every world. Each has a model: its expected end, computed without the engine.

mod asked;
pub(crate) mod changed;
mod contests;
mod ensembles;
mod interrupted;
pub(crate) mod operating;
mod performing;
pub(crate) mod solos;
mod waiting;

use std::collections::BTreeSet;

use partitura::history::Definition;
use partitura::{TaskError, Worker, Workflow};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::changed::Generation;
use self::performing::{Act, piece};
pub(crate) use self::performing::{Heard, Model, Part, Piece, Verdict};
use crate::random::Random;
use crate::service::{ATTEMPTS, Call, PANIC, Refusal};

/// The expectation of a model about a run.
#[derive(Debug, PartialEq)]
pub(crate) struct Expected {
    pub(crate) outcome: Outcome,
    /// The tasks that are scheduled, in their order.
    pub(crate) calls: Vec<String>,
    /// Other instances that it starts, by workflow and id, and their ends.
    pub(crate) others: Vec<(&'static str, String, Outcome)>,
}

impl Expected {
    fn new(outcome: Outcome, calls: Vec<String>) -> Self {
        Self { outcome, calls, others: Vec::new() }
    }

    fn and<W: Workflow>(mut self, id: String, outcome: Outcome) -> Self {
        self.others.push((W::NAME, id, outcome));
        self
    }
}

/// The end of an instance.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    Ok(Value),
    Err(Value),
    Cancelled(String),
    Other(String),
}

impl Outcome {
    fn ok(result: &impl Serialize) -> Self {
        Self::Ok(value(result))
    }

    fn err(error: &impl Serialize) -> Self {
        Self::Err(value(error))
    }
}

/// Inputs and outcomes of the catalogue are plain data.
fn value(of: &impl Serialize) -> Value {
    serde_json::to_value(of).unwrap_or(Value::Null)
}

/// The error of the catalogue's workflows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum Upset {
    #[error("refused: {0}")]
    Refused(String),
    #[error("busy")]
    Busy,
    #[error("panicked: {0}")]
    Panicked(String),
    #[error("cancelled")]
    Cancelled,
    #[error("{0}")]
    Other(String),
}

impl From<TaskError<Refusal>> for Upset {
    fn from(error: TaskError<Refusal>) -> Self {
        match error {
            TaskError::Failed(Refusal::No(name)) => Self::Refused(name),
            TaskError::Failed(Refusal::Busy) => Self::Busy,
            TaskError::Panicked(message) => Self::Panicked(message),
            TaskError::Cancelled => Self::Cancelled,
            other => Self::Other(other.to_string()),
        }
    }
}

impl From<partitura::SendError> for Upset {
    fn from(error: partitura::SendError) -> Self {
        Self::Other(error.to_string())
    }
}

impl From<partitura::Cancelled> for Upset {
    fn from(_: partitura::Cancelled) -> Self {
        Self::Cancelled
    }
}

impl Call {
    fn draw(random: &mut Random, number: usize) -> Self {
        Self {
            name: format!("c{number}"),
            fails: random.pick(&[0, 0, 0, 0, 1, 2, 9]),
            panics: random.chance(300),
            refused: random.chance(100),
            millis: random.pick(&[0, 0, 5, 300, 2_000]),
        }
    }

    fn draw_some(random: &mut Random, most: u64) -> Vec<Self> {
        (0..random.between(1, most) as usize).map(|number| Self::draw(random, number)).collect()
    }

    /// The model of the service.
    fn answer(&self) -> Result<String, Upset> {
        if self.fails >= ATTEMPTS {
            return Err(if self.panics { Upset::Panicked(PANIC.to_owned()) } else { Upset::Busy });
        }
        if self.refused { Err(Upset::Refused(self.name.clone())) } else { Ok(format!("{}.", self.name)) }
    }

    fn played(&self) -> String {
        format!("play({})", self.name)
    }
}

/// The reason with which instances of the catalogue are cancelled or terminated.
pub(crate) const REASON: &str = "the hall is closed";

/// A workflow of the catalogue.
struct Entry {
    name: &'static str,
    /// The code of the last generation.
    definition: fn() -> Definition,
    register: fn(Worker, Generation) -> Worker,
    /// The workflows that it starts.
    children: &'static [&'static str],
}

const fn entry<W: Workflow>() -> Entry {
    Entry {
        name: W::NAME,
        definition: Definition::of::<W>,
        register: |worker, _| worker.workflow::<W>(),
        children: &[],
    }
}

impl Entry {
    const fn of(mut self, children: &'static [&'static str]) -> Self {
        self.children = children;
        self
    }
}

fn entries() -> impl Iterator<Item = &'static Entry> {
    let rooms = [
        solos::WORKFLOWS,
        ensembles::WORKFLOWS,
        waiting::WORKFLOWS,
        interrupted::WORKFLOWS,
        asked::WORKFLOWS,
        changed::WORKFLOWS,
    ];
    rooms.into_iter().flatten()
}

/// The definition of a workflow, to replay its histories.
pub(crate) fn definition(workflow: &str) -> Option<Definition> {
    entries().find(|entry| entry.name == workflow).map(|entry| (entry.definition)())
}

/// Adds a workflow, and all that it starts, to those that workers run.
pub(crate) fn include(workflows: &mut BTreeSet<&'static str>, workflow: &'static str) {
    if workflows.insert(workflow)
        && let Some(entry) = entries().find(|entry| entry.name == workflow)
    {
        entry.children.iter().for_each(|child| include(workflows, child));
    }
}

/// Registers these workflows with a worker, with the code of its generation.
pub(crate) fn register(worker: Worker, workflows: &BTreeSet<&'static str>, generation: Generation) -> Worker {
    let wanted = entries().filter(|entry| workflows.contains(entry.name));
    wanted.fold(worker, |worker, entry| (entry.register)(worker, generation))
}

/// Draws one instance; one with children, if it is to be a parent.
pub(crate) fn draw(random: &mut Random, number: usize, is_parent: bool) -> Piece {
    let id = format!("p{number}");
    let begin = random.pick(&[0, 10, 1_000, 5_000]);
    if is_parent {
        let draw = random.pick(&[ensembles::family, ensembles::duet, interrupted::cascade]);
        return draw(random, id, begin);
    }
    let draw = random.pick(&[
        solos::sequence,
        solos::steps,
        solos::timers,
        ensembles::together,
        ensembles::race,
        ensembles::family,
        ensembles::duet,
        ensembles::late,
        ensembles::herald,
        waiting::collected,
        waiting::counted,
        interrupted::saga,
        interrupted::cancelled,
        interrupted::cascade,
        interrupted::terminated,
        asked::ledger,
        changed::change,
        changed::change,
        changed::patron,
        changed::abandoned,
        contests::sequences,
        contests::changes,
    ]);
    draw(random, id, begin)
}

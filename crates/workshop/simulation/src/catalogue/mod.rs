//! The workflows of every world. Each has a model: its expected end, computed without the engine.

mod asked;
mod changed;
mod completing;
mod contests;
mod continuing;
mod delegated;
mod deleted;
pub(crate) mod doomed;
mod ensembles;
mod entry;
mod expected;
mod gathered;
mod interrupted;
pub(crate) mod laden;
pub(crate) mod operating;
pub(crate) mod pausing;
mod performing;
mod retrying;
mod scheduled;
pub(crate) mod solos;
mod updated;
pub(crate) mod upset;
mod waiting;

use std::collections::BTreeSet;

use partitura::Worker;
use partitura::history::Definition;

use self::entry::Entry;
pub(crate) use self::expected::{Expected, Outcome, call};
pub(crate) use self::performing::{Answered, Model, Part, Piece, Verdict};
use crate::plan::Generation;
use crate::random::Random;

fn entries() -> impl Iterator<Item = &'static Entry> {
    let areas = [
        solos::WORKFLOWS,
        ensembles::WORKFLOWS,
        waiting::WORKFLOWS,
        interrupted::WORKFLOWS,
        asked::WORKFLOWS,
        changed::WORKFLOWS,
        continuing::WORKFLOWS,
        retrying::WORKFLOWS,
        delegated::WORKFLOWS,
        doomed::WORKFLOWS,
        gathered::WORKFLOWS,
        updated::WORKFLOWS,
        scheduled::WORKFLOWS,
        laden::WORKFLOWS,
    ];
    areas.into_iter().flatten()
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

/// Draws an instance of which a task, or a turn, ends its process.
pub(crate) fn draw_fatal(random: &mut Random, number: usize) -> Piece {
    let draw = random.pick(&[solos::fatal_sequence, ensembles::fatal_together, doomed::doomed]);
    draw(random, format!("p{number}"), 0)
}

/// Draws one instance; one with children that wait for it, if it is to be a parent.
pub(crate) fn draw(random: &mut Random, number: usize, is_parent: bool) -> Piece {
    let id = format!("p{number}");
    let begin = random.pick(&[0, 10, 1_000, 5_000]);
    if is_parent {
        let draw = random.pick(&[ensembles::duet, interrupted::cascade, changed::abandoned]);
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
        continuing::rounds,
        retrying::encore,
        delegated::commission,
        gathered::chorus,
        updated::register,
        scheduled::clockwork,
        contests::sequences,
        contests::changes,
    ]);
    draw(random, id, begin)
}

use partitura::history::Definition;
use partitura::{Worker, Workflow};

use crate::plan::Generation;

/// A workflow of the catalogue.
pub(super) struct Entry {
    pub(super) name: &'static str,
    /// The code of the last generation.
    pub(super) definition: fn() -> Definition,
    pub(super) register: fn(Worker, Generation) -> Worker,
    /// The workflows that it starts.
    pub(super) children: &'static [&'static str],
}

pub(super) const fn entry<W: Workflow>() -> Entry {
    Entry {
        name: W::NAME,
        definition: Definition::for_workflow::<W>,
        register: |worker, _| worker.workflow::<W>(),
        children: &[],
    }
}

impl Entry {
    pub(super) const fn starts(mut self, children: &'static [&'static str]) -> Self {
        self.children = children;
        self
    }
}

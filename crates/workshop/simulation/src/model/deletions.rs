//! Deleted instances, as they were.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use partitura_broker::Message;

/// The turns of a run that were deleted, by their numbers.
pub(crate) type Turns = BTreeMap<u32, Bytes>;

/// Instances and histories that are no longer kept.
#[derive(Debug, Default)]
pub(crate) struct Deletions {
    /// How often each run has begun, by the key of its history. A copy of its start begins it anew once it is deleted.
    begins: BTreeMap<Bytes, usize>,
    /// The deleted histories of a run, by the number of the beginning.
    turns: BTreeMap<(Bytes, usize), Turns>,
    /// The keys of instances that were deleted once.
    instances: BTreeSet<Bytes>,
    /// The tasks that were asked for, for the mutant that asks again.
    pub(crate) tasks: Vec<Message>,
}

impl Deletions {
    /// A run begins. Whether it was there before.
    pub(crate) fn begins(&mut self, run: &Bytes) -> bool {
        let begins = self.begins.entry(run.clone()).or_default();
        *begins += 1;
        *begins > 1
    }

    /// Whether a run has begun more than once.
    pub(crate) fn has_begun_again(&self, run: &str) -> bool {
        let is_it = |key: &Bytes| String::from_utf8_lossy(key).split('\0').nth(2) == Some(run);
        self.begins.iter().any(|(key, begins)| *begins > 1 && is_it(key))
    }

    /// A turn is deleted.
    pub(crate) fn turn(&mut self, run: Bytes, turn: u32, value: Bytes) {
        let begins = self.begins.get(&run).copied().unwrap_or_default();
        self.turns.entry((run, begins)).or_default().insert(turn, value);
    }

    /// The turns of the beginning of this number, counted from 1, if they are deleted.
    pub(crate) fn turns_of(&self, run: &Bytes, begin: usize) -> Option<&Turns> {
        self.turns.get(&(run.clone(), begin))
    }

    /// All deleted turns of runs whose keys begin like this.
    pub(crate) fn turns_below<'a>(&'a self, prefix: &'a [u8]) -> impl Iterator<Item = &'a Bytes> {
        let of = move |((run, _), _): &(&(Bytes, usize), &Turns)| run.starts_with(prefix);
        self.turns.iter().filter(of).flat_map(|(_, turns)| turns.values())
    }

    /// An instance is deleted.
    pub(crate) fn instance(&mut self, key: &Bytes) {
        self.instances.insert(key.clone());
    }

    /// Whether an instance was deleted once.
    pub(crate) fn has_had(&self, workflow: &str, id: &str) -> bool {
        self.instances.contains(format!("{workflow}\0{id}").as_bytes())
    }
}

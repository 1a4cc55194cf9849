//! The actions of the world itself, with their times.

use std::collections::BTreeMap;

use partitura_broker::Message;

/// Deeds by their time; those of the same time in the order in which they were decided.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    deeds: BTreeMap<(u64, u64), Deed>,
    count: u64,
}

/// An action that the world will do.
#[derive(Debug)]
pub(crate) enum Deed {
    /// The session of a process that is gone ends.
    EndSession { process: usize },
    /// A partition that was not released in time is taken.
    EndRevoking { group: usize, partition: u32, epoch: u32 },
    /// Settlements that were sent arrive.
    Settle { member: usize },
    /// A consumer that was cut off is told, and joins again.
    Return { member: usize },
    /// A paused process goes on.
    Resume { process: usize },
    /// A process is asked to shut down: it has old code.
    Retire { process: usize },
    /// A message is stored: the second copy of one.
    Store { message: Message },
    /// An incident happens, and the next one is planned.
    Mishap,
    /// From now on there are no faults.
    Calm,
}

impl Agenda {
    /// Adds a deed for this time.
    pub(crate) fn add(&mut self, at: u64, deed: Deed) {
        self.count += 1;
        self.deeds.insert((at, self.count), deed);
    }

    /// The time of the next deed.
    pub(crate) fn next(&self) -> Option<u64> {
        self.deeds.keys().next().map(|(at, _)| *at)
    }

    /// Gives up storing messages.
    pub(crate) fn forget(&mut self, which: impl Fn(&Message) -> bool) {
        self.deeds.retain(|_, deed| !matches!(deed, Deed::Store { message } if which(message)));
    }

    /// The next deed, if it is due.
    pub(crate) fn take(&mut self, now: u64) -> Option<Deed> {
        let entry = self.deeds.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(entry.remove())
    }
}

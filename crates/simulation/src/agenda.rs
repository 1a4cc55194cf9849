//! What the world does by itself, and when.

use std::collections::BTreeMap;

use partitura_broker::Message;

/// Deeds in the order of their moments; those of one moment in the order in which they were decided.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    deeds: BTreeMap<(u64, u64), Deed>,
    count: u64,
}

/// Something that the world will do.
#[derive(Debug)]
pub(crate) enum Deed {
    /// The session of a process that is gone ends.
    EndSession { process: usize },
    /// A partition that was not released in time is taken.
    EndRevoking { group: usize, partition: u32, epoch: u32 },
    /// Settlements that were sent arrive.
    Settle { member: usize },
    /// A consumer that was cut off hears of it, and is taken up again.
    Return { member: usize },
    /// A process that stood still goes on.
    Resume { process: usize },
    /// A process is asked to shut down: it has old code.
    Retire { process: usize },
    /// A message is stored: the second copy of one.
    Store { message: Message },
    /// Something goes wrong, and something else will.
    Mishap,
    /// From now on nothing goes wrong any more.
    Calm,
}

impl Agenda {
    /// Puts down what is to be done at this moment.
    pub(crate) fn add(&mut self, at: u64, deed: Deed) {
        self.count += 1;
        self.deeds.insert((at, self.count), deed);
    }

    /// When the next deed is due.
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

use partitura_broker::Timestamp;

use super::broker_state::State;
use super::changes::{Append, Changes};
use super::group::{Delayed, Mark};
use super::queue::{Place, Ready};

/// Messages that are due within this many milliseconds are kept in memory: reading them back would make them late.
const SOON: u64 = 30_000;

impl State {
    /// The latest due time of a message that may have been delivered.
    pub(crate) fn fired(&self) -> Timestamp {
        self.fired
    }

    /// Returns the messages to remove, and holds back messages that become due until the batch is applied.
    pub(crate) fn begin_batch(&mut self, now: Timestamp) -> Vec<u64> {
        self.writing = Some(now);
        std::mem::take(&mut self.settled)
    }

    /// Applies a batch that is in the storage.
    pub(crate) fn apply(&mut self, changes: Changes, now: Timestamp) {
        if let Some(catalog) = changes.catalog {
            self.set_catalog(catalog);
        }
        self.settle_claims(changes.claims);
        self.forget(changes.withdrawn);
        for append in changes.appends {
            self.append(append, now);
        }
        for broadcast in &changes.broadcasts {
            self.broadcast(broadcast.partition, &broadcast.message, now);
        }
    }

    /// Drops a batch that is not in the storage. Its removals come with the next one.
    pub(crate) fn revert(&mut self, mut changes: Changes) {
        self.unclaim(changes.claims);
        self.put_back(changes.withdrawn);
        changes.removed.append(&mut self.settled);
        self.settled = changes.removed;
    }

    /// Ends a batch, applied or dropped: messages that became due meanwhile may follow.
    pub(crate) fn end_batch(&mut self, now: Timestamp) {
        self.writing = None;
        for group in std::mem::take(&mut self.late) {
            self.fire(group, now);
        }
    }

    /// Puts a message that is stored into its queue, or among the delayed.
    fn append(&mut self, Append { row, message }: Append, now: Timestamp) {
        let Some(queue) = self.queues.get(row.queue as usize) else { return };
        let number = queue.group;
        let place = Place { ready_at: row.ready_at, seq: row.seq };
        if row.delayed {
            let mark = Some(Mark::from_id(&message.id));
            let soon = row.ready_at < now.as_millis() + SOON;
            let content = if soon { self.keep(message, row.size) } else { None };
            let group = &mut self.groups[number as usize];
            let first = group.next_due().is_none_or(|due| row.ready_at < due);
            group.delayed.insert(place, Delayed { queue: row.queue, size: row.size, mark, content });
            if first {
                self.wake_group(number);
            }
            return;
        }
        self.fire(number, now);
        let content = self.keep(message, row.size);
        self.enqueue(row.queue, Ready { place, size: row.size, redelivered: false, content });
    }
}

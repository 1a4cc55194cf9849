//! Writing and reading the log of a shared subscription, and reading its messages.

use std::sync::Arc;

use partitura_broker::{Result, TopicName};
use rdkafka::message::{BorrowedMessage, OwnedHeaders};

use super::entry::Entry;
use super::ledger::Ledger;
use crate::core::Core;
use crate::reader::{Reader, Start};
use crate::record::{Confirm, Record};
use crate::record_producer::RecordProducer;
use crate::wire::{self, Stored};

/// An entry of the log; `None` if this version does not know it.
pub(super) struct LogEntry {
    pub(super) offset: i64,
    pub(super) entry: Option<Entry>,
}

pub(super) fn write(producer: &RecordProducer, log: &str, entry: &Entry, confirm: Confirm) -> Result<()> {
    let text = entry.encode();
    let record = Record {
        topic: log,
        partition: 0,
        key: None,
        payload: Some(text.as_bytes()),
        headers: OwnedHeaders::new_with_capacity(0),
    };
    let sent = producer.send(record, confirm);
    sent.map_err(|refused| crate::error::refused("settle", refused.code).of(log))
}

/// Reads the log up to an entry that was just written. Returns the offset behind it.
pub(super) async fn follow_to(entries: &mut Reader<LogEntry>, ledger: &mut Ledger, last: &Entry) -> Result<i64> {
    let (mut read, mut reached) = (0, false);
    while !reached {
        for LogEntry { offset, entry } in entries.next().await? {
            read = offset + 1;
            reached |= entry.as_ref() == Some(last);
            entry.iter().for_each(|entry| drop(ledger.apply(entry)));
        }
    }
    Ok(read)
}

pub(super) async fn read_messages(core: &Arc<Core>, topic: &TopicName, from: i64) -> Result<Reader<Stored>> {
    let named = topic.clone();
    let read = move |record: &BorrowedMessage<'_>| Some(wire::stored(&named, record));
    Reader::open(core, topic.as_str(), [0], Start::Offset(from), read).await
}

/// Applies the log up to `end`. Soon after the beginning of a log whose first entries were deleted there is a
/// snapshot.
pub(super) async fn replay(
    entries: &mut Reader<LogEntry>,
    mut ledger: Ledger,
    first: i64,
    end: i64,
) -> Result<(Ledger, i64)> {
    let mut before: Option<Vec<(i64, Entry)>> = (first > 0).then(Vec::new);
    let mut read = first;
    while read < end {
        for LogEntry { offset, entry } in entries.next().await? {
            read = offset + 1;
            match (entry, &mut before) {
                (Some(Entry::Snapshot(snapshot)), Some(waiting)) => {
                    ledger = Ledger::restore(&snapshot);
                    for (_, entry) in waiting.drain(..).filter(|(offset, _)| *offset >= snapshot.as_of) {
                        ledger.apply(&entry);
                    }
                    before = None;
                }
                (Some(entry), Some(waiting)) => waiting.push((offset, entry)),
                (Some(entry), None) => drop(ledger.apply(&entry)),
                (None, _) => {}
            }
        }
    }
    Ok((ledger, read))
}

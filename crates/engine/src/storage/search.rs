//! Reads ranges of rows as if they were one, in the order of what follows their prefixes.

use std::collections::VecDeque;

use bytes::Bytes;
use futures::future::try_join_all;
use partitura_broker::{Entry, Result, ScanRange, Space};

use crate::storage::turn_store::TurnStore;

/// How many rows of a range are read at a time, at most and at least.
const MOST: usize = 1_000;
const LEAST: usize = 8;

/// A range: rows that begin with `prefix`, and then with something of `from` up to `to`.
#[derive(Debug, Clone)]
pub(crate) struct Stream {
    pub(crate) space: Space,
    pub(crate) prefix: Vec<u8>,
    pub(crate) from: Vec<u8>,
    pub(crate) to: Option<Vec<u8>>,
}

/// How far a search has come: behind this row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Position {
    /// The row, without its prefix.
    pub(crate) rest: Bytes,
    /// Where prefixes tell rows apart: its prefix.
    pub(crate) prefix: Option<Bytes>,
}

impl Stream {
    /// All that begins with `prefix`.
    pub(crate) fn whole(space: Space, prefix: Vec<u8>) -> Self {
        Self { space, prefix, from: Vec::new(), to: None }
    }

    /// Its rows behind a position.
    pub(crate) fn range(&self, after: Option<&Position>) -> ScanRange {
        let Self { space, prefix, from, to } = self;
        let key = |rest: &[u8]| -> Bytes { [prefix, rest].concat().into() };
        let whole = ScanRange::prefix(space, prefix.clone());
        let range = ScanRange { from: key(from), to: to.as_deref().map(key).or(whole.to), space };
        match after {
            None => range,
            // Its own row of this prefix comes behind that of the prefix before.
            Some(Position { rest, prefix: Some(of) }) if prefix[..] > of[..] => {
                ScanRange { from: range.from.max(key(rest)), ..range }
            }
            Some(Position { rest, .. }) => {
                let behind = range.clone().after(&key(rest)).from;
                ScanRange { from: range.from.max(behind), ..range }
            }
        }
    }
}

/// Several ranges as one.
pub(crate) struct Search<'a> {
    turn_store: &'a TurnStore,
    sources: Vec<Source>,
}

struct Source {
    prefix: Bytes,
    range: ScanRange,
    read: VecDeque<Entry>,
    /// How many rows are read next.
    next: usize,
    is_over: bool,
}

/// A row that was found.
pub(crate) struct Row {
    pub(crate) prefix: Bytes,
    /// Its key without the prefix.
    pub(crate) rest: Bytes,
    pub(crate) value: Bytes,
}

impl<'a> Search<'a> {
    /// About `wanted` rows will be read.
    pub(crate) fn new(turn_store: &'a TurnStore, streams: &[Stream], after: Option<&Position>, wanted: usize) -> Self {
        let next = (wanted / streams.len().max(1)).saturating_add(1).clamp(LEAST, MOST);
        let source = |stream: &Stream| Source {
            prefix: stream.prefix.clone().into(),
            range: stream.range(after),
            read: VecDeque::new(),
            next,
            is_over: false,
        };
        Self { turn_store, sources: streams.iter().map(source).collect() }
    }

    /// The next row of all.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn next(&mut self) -> Result<Option<Row>> {
        let turn_store = self.turn_store;
        let dry = self.sources.iter_mut().filter(|source| source.read.is_empty() && !source.is_over);
        try_join_all(dry.map(|source| source.refill(turn_store))).await?;
        let rest = |source: &Source| Some(source.read.front()?.key.slice(source.prefix.len()..));
        let order = |source: &&mut Source| (rest(source), source.prefix.clone());
        let Some(source) = self.sources.iter_mut().filter(|source| !source.read.is_empty()).min_by_key(order) else {
            return Ok(None);
        };
        let Some(Entry { key, value, .. }) = source.read.pop_front() else { return Ok(None) };
        Ok(Some(Row { prefix: source.prefix.clone(), rest: key.slice(source.prefix.len()..), value }))
    }

    /// Whether there may be another row.
    pub(crate) fn goes_on(&self) -> bool {
        self.sources.iter().any(|source| !source.read.is_empty() || !source.is_over)
    }
}

impl Source {
    async fn refill(&mut self, turn_store: &TurnStore) -> Result<()> {
        let page = turn_store.scan(self.range.clone(), self.next).await?;
        self.is_over = page.len() < self.next;
        self.next = (self.next * 2).min(MOST);
        if let Some(last) = page.last() {
            self.range = self.range.clone().after(&last.key);
        }
        self.read.extend(page);
        Ok(())
    }
}

/// The names, each with a NUL behind it, with which keys go on behind a prefix.
///
/// # Errors
/// Those of the store.
pub(crate) async fn names(turn_store: &TurnStore, space: Space, prefix: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut range = ScanRange::prefix(space, prefix.to_vec());
    let mut names = Vec::new();
    loop {
        let page = turn_store.scan(range.clone(), 1).await?;
        let Some(first) = page.first() else { return Ok(names) };
        let Some(length) = first.key[prefix.len()..].iter().position(|byte| *byte == 0) else {
            range = range.after(&first.key);
            continue;
        };
        let name = &first.key[..prefix.len() + length];
        names.push([&name[prefix.len()..], b"\0"].concat());
        range.from = [name, b"\x01"].concat().into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(stream: &Stream, after: Option<(&'static [u8], Option<&'static [u8]>)>) -> (Vec<u8>, Option<Vec<u8>>) {
        let after = after.map(|(rest, prefix)| Position { rest: rest.into(), prefix: prefix.map(Bytes::from) });
        let ScanRange { from, to, .. } = stream.range(after.as_ref());
        (from.to_vec(), to.map(|to| to.to_vec()))
    }

    #[test]
    fn a_search_goes_on_behind_its_position_and_within_its_bounds() {
        let whole = Stream::whole("s", b"b".to_vec());
        assert_eq!(range(&whole, None), (b"b".to_vec(), Some(b"c".to_vec())));
        assert_eq!(range(&whole, Some((b"5", None))).0, b"b5\0");
        for (before, from) in [(&b"a"[..], &b"b5"[..]), (b"b", b"b5\0"), (b"c", b"b5\0")] {
            assert_eq!(range(&whole, Some((b"5", Some(before)))).0, from, "behind {before:?}");
        }
        let bound = Stream { from: b"3".to_vec(), to: Some(b"7".to_vec()), ..whole };
        assert_eq!(range(&bound, None), (b"b3".to_vec(), Some(b"b7".to_vec())));
        assert_eq!(range(&bound, Some((b"1", None))).0, b"b3");
        assert_eq!(range(&bound, Some((b"5", None))).0, b"b5\0");
    }
}

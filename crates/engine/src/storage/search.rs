//! Reads ranges of rows as if they were one, in the order of what follows their prefixes.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use partitura_broker::{Entry, Result, ScanRange, Space};

use crate::storage::turn_store::TurnStore;

/// How many rows of a range are read at a time, at most.
const MOST: usize = 1_000;

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
        // Of many ranges most have little to add to a page.
        let next = (wanted / streams.len().max(1)).saturating_add(2).min(MOST);
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
        self.refill().await?;
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

    /// Reads on in all ranges of which nothing is left, in one request.
    async fn refill(&mut self) -> Result<()> {
        let is_dry = |source: &&mut Source| source.read.is_empty() && !source.is_over;
        let mut dry: Vec<&mut Source> = self.sources.iter_mut().filter(is_dry).collect();
        let Some(most) = dry.iter().map(|source| source.next).max() else { return Ok(()) };
        let ranges = dry.iter().map(|source| source.range.clone()).collect();
        let pages = self.turn_store.scan_each(ranges, most).await?;
        dry.iter_mut().zip(pages).for_each(|(source, page)| source.add(page, most));
        Ok(())
    }
}

impl Source {
    /// Adds what was found when `most` rows were asked for.
    fn add(&mut self, page: Vec<Entry>, most: usize) {
        self.is_over = page.len() < most;
        self.next = (most * 2).min(MOST);
        if let Some(last) = page.last() {
            self.range = self.range.clone().after(&last.key);
        }
        self.read.extend(page);
    }
}

/// The names, each with a NUL behind it, with which keys go on behind a prefix. Those that are expected are looked for
/// in one request; each other one costs a request of its own.
///
/// # Errors
/// Those of the store.
pub(crate) async fn names(
    turn_store: &TurnStore,
    space: Space,
    prefix: &[u8],
    expected: &BTreeSet<String>,
) -> Result<Vec<Vec<u8>>> {
    let ranges = gaps_and_names(space, prefix, expected);
    let found = turn_store.scan_each(ranges.clone(), 1).await?;
    let mut names = Vec::new();
    for (mut range, first) in ranges.into_iter().zip(found) {
        let mut next = first.into_iter().next();
        while let Some(Entry { key, .. }) = next {
            match key[prefix.len()..].iter().position(|byte| *byte == 0) {
                Some(length) => {
                    let name = &key[..prefix.len() + length];
                    names.push([&name[prefix.len()..], b"\0"].concat());
                    range.from = [name, b"\x01"].concat().into();
                }
                None => range = range.after(&key),
            }
            let is_over = range.to.as_ref().is_some_and(|to| range.from >= to);
            next = if is_over { None } else { turn_store.scan(range.clone(), 1).await?.pop() };
        }
    }
    Ok(names)
}

/// The keys behind a prefix, in parts: by turns those before an expected name, and those of the name.
fn gaps_and_names(space: Space, prefix: &[u8], expected: &BTreeSet<String>) -> Vec<ScanRange> {
    let ScanRange { mut from, to, .. } = ScanRange::prefix(space, prefix.to_vec());
    let mut ranges = Vec::with_capacity(2 * expected.len() + 1);
    for name in expected {
        for behind in [b"\0", b"\x01"] {
            let to: Bytes = [prefix, name.as_bytes(), behind].concat().into();
            ranges.push(ScanRange { space, from, to: Some(to.clone()) });
            from = to;
        }
    }
    // Names are text, and no text has this byte. A range with an end is read together with others.
    let to = to.unwrap_or_else(|| Bytes::from_static(b"\xff"));
    ranges.push(ScanRange { space, from, to: Some(to) });
    ranges
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

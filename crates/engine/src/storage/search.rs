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
    has_given: bool,
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
            has_given: false,
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
        source.has_given = true;
        let Some(Entry { key, value, .. }) = source.read.pop_front() else { return Ok(None) };
        Ok(Some(Row { prefix: source.prefix.clone(), rest: key.slice(source.prefix.len()..), value }))
    }

    /// Whether there may be another row.
    pub(crate) fn goes_on(&self) -> bool {
        self.sources.iter().any(|source| !source.read.is_empty() || !source.is_over)
    }

    /// Reads on in all ranges of which nothing is left, in one request, and with these in those that come next.
    async fn refill(&mut self) -> Result<()> {
        if !self.sources.iter().any(|source| source.read.is_empty() && !source.is_over) {
            return Ok(());
        }
        let is_low = |source: &&mut Source| {
            let left = source.read.len();
            !source.is_over && (left == 0 || left == 1 && source.has_given)
        };
        let mut low: Vec<&mut Source> = self.sources.iter_mut().filter(is_low).collect();
        let most = low.iter().map(|source| source.next).max().unwrap_or(MOST);
        let ranges = low.iter().map(|source| source.range.clone()).collect();
        let pages = self.turn_store.scan_each(ranges, most).await?;
        low.iter_mut().zip(pages).for_each(|(source, page)| source.add(page, most));
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

/// The names, each with a NUL behind it, with which keys go on behind a prefix. One request counts the keys of those
/// that are expected, and looks for others between them; each other one costs a request of its own.
///
/// # Errors
/// Those of the store.
pub(crate) async fn names(
    turn_store: &TurnStore,
    space: Space,
    prefix: &[u8],
    expected: &BTreeSet<String>,
) -> Result<Vec<Vec<u8>>> {
    let parts = gaps_and_names(space, prefix, expected);
    let counts = turn_store.count_each(parts.iter().map(|(_, range)| range.clone()).collect(), 1).await?;
    let mut names = Vec::new();
    for ((expected, mut range), _) in parts.into_iter().zip(counts).filter(|(_, count)| *count > 0) {
        if let Some(name) = expected {
            names.push([name.as_bytes(), b"\0"].concat());
            continue;
        }
        while let Some(Entry { key, .. }) = turn_store.scan(range.clone(), 1).await?.pop() {
            match key[prefix.len()..].iter().position(|byte| *byte == 0) {
                Some(length) => {
                    let name = &key[..prefix.len() + length];
                    names.push([&name[prefix.len()..], b"\0"].concat());
                    range.from = [name, b"\x01"].concat().into();
                }
                None => range = range.after(&key),
            }
        }
    }
    Ok(names)
}

/// The keys behind a prefix, in parts: by turns those before an expected name, and those of the name.
fn gaps_and_names<'e>(
    space: Space,
    prefix: &[u8],
    expected: &'e BTreeSet<String>,
) -> Vec<(Option<&'e String>, ScanRange)> {
    let ScanRange { mut from, to, .. } = ScanRange::prefix(space, prefix.to_vec());
    let mut parts = Vec::with_capacity(2 * expected.len() + 1);
    for name in expected {
        for (part, behind) in [(None, b"\0"), (Some(name), b"\x01")] {
            let to: Bytes = [prefix, name.as_bytes(), behind].concat().into();
            parts.push((part, ScanRange { space, from, to: Some(to.clone()) }));
            from = to;
        }
    }
    // Names are text, and no text has this byte. A range with an end is read together with others.
    let to = to.unwrap_or_else(|| Bytes::from_static(b"\xff"));
    parts.push((None, ScanRange { space, from, to: Some(to) }));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_and_names_cover_all_keys_behind_a_prefix_without_a_gap() {
        let expected = ["B", "A", "AB"].map(str::to_owned).into();
        let parts = gaps_and_names("s", b"p", &expected);
        let names: Vec<_> = parts.iter().map(|(name, _)| name.map(String::as_str)).collect();
        assert_eq!(names, [None, Some("A"), None, Some("AB"), None, Some("B"), None]);
        for pair in parts.windows(2) {
            assert_eq!(pair[0].1.to.as_ref(), Some(&pair[1].1.from));
        }
        let whole = ScanRange::prefix("s", "p");
        assert_eq!((&parts[0].1.from, &parts[6].1.to), (&whole.from, &whole.to));
        assert_eq!(parts[3].1.from, "pAB\0");
    }

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

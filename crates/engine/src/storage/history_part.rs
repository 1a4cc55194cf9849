//! A part of a long history, without reading the rest: turns say how many events are before them.

use std::ops::Range;

use partitura_broker::{Entry, Result, ScanRange};
use partitura_workflow::Event;

use crate::storage::history::{self, StoredTurn, run_prefix, turn_key};
use crate::storage::turn_store::{HISTORY, TurnStore};
use crate::wire::names::InstanceKey;

/// How many turns are read at a time.
const PAGE: usize = 256;
/// A history of fewer turns is read in one request.
const SHORT: usize = 16;
/// How many turns are asked for in one request to find the last one, and the one with an event.
const PROBES: u32 = 32;
const READ_AS_PROBES: u32 = 8;

/// Events that follow one another.
#[derive(Debug, PartialEq)]
pub(crate) struct Part {
    /// The number of the first, counted from 0.
    pub(crate) first: usize,
    pub(crate) events: Vec<Event>,
    /// How many the run has in all.
    pub(crate) total: usize,
}

/// The events of a run whose numbers `wanted` gives, of as many as it has. A history of before the turns were numbered
/// is read as a whole.
///
/// # Errors
/// Those of the store.
pub(crate) async fn part(
    turn_store: &TurnStore,
    key: &InstanceKey,
    run: &str,
    wanted: impl FnOnce(usize) -> Range<usize>,
) -> Result<Part> {
    let history = Numbered { turn_store, key, run };
    let beginning = turn_store.scan(ScanRange::prefix(HISTORY, run_prefix(key, run)), SHORT).await?;
    if beginning.len() < SHORT {
        return history.of_rows(&beginning, wanted);
    }
    let Some(last) = history.last().await? else { return Ok(Part { first: 0, events: Vec::new(), total: 0 }) };
    let Some(total) = history.end_of(last).await? else { return history.whole(wanted).await };
    let wanted = wanted(total);
    let (first, end) = (wanted.start.min(total), wanted.end.clamp(wanted.start.min(total), total));
    let Some(turn) = history.turn_with(first, last).await? else { return history.whole(|_| wanted).await };
    match history.read(turn, first..end).await? {
        Some(events) => Ok(Part { first, events, total }),
        None => history.whole(|_| wanted).await,
    }
}

struct Numbered<'a> {
    turn_store: &'a TurnStore,
    key: &'a InstanceKey,
    run: &'a str,
}

impl Numbered<'_> {
    fn range(&self, turn: u32) -> ScanRange {
        let key = turn_key(self.key, self.run, turn);
        ScanRange { space: HISTORY, to: Some([&key[..], &[0]].concat().into()), from: key }
    }

    /// Which of these turns there are. Nothing of them is read.
    async fn are_there(&self, turns: &[u32]) -> Result<Vec<bool>> {
        let ranges = turns.iter().map(|turn| self.range(*turn)).collect();
        Ok(self.turn_store.count_each(ranges, 1).await?.into_iter().map(|count| count > 0).collect())
    }

    /// The last turn: turns have numbers without a gap, so it is found by asking for a few at a time, each time nearer.
    async fn last(&self) -> Result<Option<u32>> {
        let mut probes: Vec<u32> = std::iter::once(0).chain((0..u32::BITS).map(|power| 1 << power)).collect();
        let (mut found, mut missing) = (None, u32::MAX);
        while !probes.is_empty() {
            let there = self.are_there(&probes).await?;
            let gap = there.iter().position(|is_there| !is_there).unwrap_or(probes.len());
            missing = probes.get(gap).copied().unwrap_or(missing);
            found = gap.checked_sub(1).map(|last| probes[last]).or(found);
            let Some(last) = found else { break };
            probes = between(last, missing, PROBES);
        }
        Ok(found)
    }

    /// How many events the run has with this turn.
    async fn end_of(&self, turn: u32) -> Result<Option<usize>> {
        match history::turn(self.turn_store, (self.key, self.run), turn).await? {
            Some(turn) => Ok(Some(turn.len(self.key)?).zip(turn.before).map(|(events, before)| before + events)),
            None => Ok(None),
        }
    }

    /// The last turn that does not begin behind event `number`.
    async fn turn_with(&self, number: usize, last: u32) -> Result<Option<u32>> {
        let (mut fits, mut behind) = (0, last.saturating_add(1));
        loop {
            let probes = between(fits, behind, READ_AS_PROBES);
            if probes.is_empty() {
                return Ok(Some(fits));
            }
            let ranges = probes.iter().map(|turn| self.range(*turn)).collect();
            for (turn, row) in probes.into_iter().zip(self.turn_store.scan_each(ranges, 1).await?) {
                let Some(row) = row.first() else { return Ok(None) };
                match StoredTurn::read(self.turn_store.payloads(), self.key, turn, &row.value)?.before {
                    Some(before) if before <= number => fits = turn,
                    Some(_) => {
                        behind = turn;
                        break;
                    }
                    None => return Ok(None),
                }
            }
        }
    }

    /// The events of these numbers, from this turn on; `None` if a turn is not numbered.
    async fn read(&self, turn: u32, wanted: Range<usize>) -> Result<Option<Vec<Event>>> {
        let mut range = ScanRange::prefix(HISTORY, run_prefix(self.key, self.run));
        range.from = turn_key(self.key, self.run, turn);
        let (mut events, mut turn) = (Vec::with_capacity(wanted.len().min(1_024)), turn);
        loop {
            // A turn has an event at least, as a rule.
            let most = (wanted.len() - events.len()).clamp(1, PAGE);
            let page = self.turn_store.scan(range.clone(), most).await?;
            let Some(last) = page.last() else { return Ok(Some(events)) };
            range = range.after(&last.key);
            for row in &page {
                let stored = StoredTurn::read(self.turn_store.payloads(), self.key, turn, &row.value)?;
                let Some(before) = stored.before else { return Ok(None) };
                events.extend(
                    stored.events(self.turn_store.payloads(), self.key, |place| wanted.contains(&(before + place)))?,
                );
                turn += 1;
            }
            if events.len() >= wanted.len() || page.len() < most {
                return Ok(Some(events));
            }
        }
    }

    /// Of a history that is these rows.
    fn of_rows(&self, rows: &[Entry], wanted: impl FnOnce(usize) -> Range<usize>) -> Result<Part> {
        let payloads = self.turn_store.payloads();
        let (mut turns, mut total) = (Vec::with_capacity(rows.len()), 0);
        for (turn, row) in (0..).zip(rows) {
            let stored = StoredTurn::read(payloads, self.key, turn, &row.value)?;
            let before = total;
            total += stored.len(self.key)?;
            turns.push((before..total, stored));
        }
        let wanted = wanted(total);
        let first = wanted.start.min(total);
        let mut events = Vec::new();
        for (numbers, stored) in turns.iter().filter(|(of, _)| of.start < wanted.end && of.end > first) {
            events.extend(stored.events(payloads, self.key, |place| wanted.contains(&(numbers.start + place)))?);
        }
        Ok(Part { first, events, total })
    }

    async fn whole(&self, wanted: impl FnOnce(usize) -> Range<usize>) -> Result<Part> {
        let mut events = history::load(self.turn_store, self.key, self.run).await?.events;
        let total = events.len();
        let wanted = wanted(total);
        let first = wanted.start.min(total);
        events.truncate(wanted.end.max(first));
        events.drain(..first);
        Ok(Part { first, events, total })
    }
}

/// Numbers between two others, evenly apart: all of them, or `most`.
fn between(low: u32, high: u32, most: u32) -> Vec<u32> {
    let gap = high.saturating_sub(low);
    let parts = gap.min(most + 1);
    let number = |part: u32| u64::from(gap) * u64::from(part) / u64::from(parts);
    (1..parts).map(|part| low + u32::try_from(number(part)).unwrap_or(gap)).collect()
}

/// How many turns a run has.
///
/// # Errors
/// Those of the store.
pub(crate) async fn turns(turn_store: &TurnStore, key: &InstanceKey, run: &str) -> Result<usize> {
    let last = Numbered { turn_store, key, run }.last().await?;
    Ok(last.map_or(0, |last| usize::try_from(last).unwrap_or(usize::MAX).saturating_add(1)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;
    use bytes::Bytes;
    use partitura_broker::{Broker, Put, Space, Version};
    use partitura_embedded::{Embedded, Options};
    use partitura_workflow::EventKind;

    use super::*;
    use crate::storage::history::Place;
    use crate::storage::store::{BrokerStore, Store};
    use crate::wire::Payloads;
    use crate::wire::namespace::Namespace;

    const RUN: &str = "run";

    /// A store that counts requests and the rows that are read.
    #[derive(Debug)]
    struct Counting(BrokerStore, AtomicUsize, AtomicUsize);

    impl Counting {
        fn note<'a>(&self, pages: impl IntoIterator<Item = &'a Vec<Entry>>) {
            self.1.fetch_add(1, Ordering::SeqCst);
            self.2.fetch_add(pages.into_iter().map(Vec::len).sum(), Ordering::SeqCst);
        }

        fn taken(&self) -> (usize, usize) {
            (self.1.swap(0, Ordering::SeqCst), self.2.swap(0, Ordering::SeqCst))
        }
    }

    #[async_trait]
    impl Store for Counting {
        async fn write(&self, groups: Vec<Vec<Put>>) -> Vec<Result<()>> {
            self.0.write(groups).await
        }

        async fn get(&self, space: Space, key: Bytes) -> Result<Option<(Version, Bytes)>> {
            self.note([&Vec::new()]);
            self.0.get(space, key).await
        }

        async fn scan(&self, range: ScanRange, limit: usize) -> Result<Vec<Entry>> {
            let page = self.0.scan(range, limit).await?;
            self.note([&page]);
            Ok(page)
        }

        async fn scan_each(&self, ranges: Vec<ScanRange>, limit: usize) -> Result<Vec<Vec<Entry>>> {
            let pages = self.0.scan_each(ranges, limit).await?;
            self.note(&pages);
            Ok(pages)
        }

        async fn count_each(&self, ranges: Vec<ScanRange>, limit: usize) -> Result<Vec<usize>> {
            self.note([&Vec::new()]);
            self.0.count_each(ranges, limit).await
        }
    }

    /// A history whose turns have these numbers of events; turns before `numbered` are those of an older program.
    async fn stored(turns: &[usize], numbered: u32) -> (TurnStore, Arc<Counting>, InstanceKey) {
        let broker: Arc<dyn Broker> = Arc::new(Embedded::memory(Options::default()).expect("memory"));
        let inner = BrokerStore::new(broker.clone()).expect("it keeps state");
        let store = Arc::new(Counting(inner, AtomicUsize::new(0), AtomicUsize::new(0)));
        let key = InstanceKey::new("Long", "l-1");
        let (mut before, mut puts) = (0, Vec::new());
        for (turn, events) in (0..).zip(turns) {
            let known = (turn > 0 && turn >= numbered).then_some(before);
            let place = Place { turn, before: known, build: "1" };
            let fired = |number| EventKind::TimerFired { seq: number as u32 };
            let of_turn: Vec<Event> =
                (before..before + events).map(|number| Event::new(number as u64, fired(number))).collect();
            puts.push(history::append(&Payloads::default(), &key, RUN, place, &of_turn));
            before += events;
        }
        store.write(vec![puts]).await.pop().expect("one answer").expect("written");
        (TurnStore::of_client(&broker, Some(store.clone()), Namespace::default()), store, key)
    }

    #[tokio::test]
    async fn a_part_is_that_of_the_whole_whichever_it_is_and_whoever_wrote_the_turns() {
        let turns: Vec<usize> = (0..600).map(|turn| [1, 3, 0, 2, 7][turn % 5]).collect();
        let short = &turns[..SHORT];
        let shapes: [(&[usize], u32); 7] =
            [(&turns, 0), (&turns, 400), (&turns, 600), (short, 0), (&short[1..], 8), (&[2], 0), (&[], 0)];
        for (turns, numbered) in shapes {
            let (turn_store, _, key) = stored(turns, numbered).await;
            assert_eq!(super::turns(&turn_store, &key, RUN).await.expect("counted"), turns.len());
            let all = history::load(&turn_store, &key, RUN).await.expect("a history").events;
            let total = all.len();
            for first in [0, 1, 5, 99, total / 2, total.saturating_sub(100), total, total + 9] {
                for most in [0, 1, 100, 1_000, usize::MAX] {
                    let found =
                        part(&turn_store, &key, RUN, |_| first..first.saturating_add(most)).await.expect("read");
                    let wanted: Vec<Event> = all.iter().skip(first).take(most).cloned().collect();
                    let what = format!("{} turns, numbered from {numbered}, {most} from {first}", turns.len());
                    assert_eq!(found, Part { first: first.min(total), events: wanted, total }, "{what}");
                }
            }
        }
    }

    #[tokio::test]
    async fn a_short_history_takes_one_request_and_a_long_one_few() {
        let (turn_store, store, key) = stored(&[3; SHORT - 1], 0).await;
        let found = part(&turn_store, &key, RUN, |total| total - 10..total).await.expect("read");
        assert_eq!((found.events.len(), found.total), (10, 45));
        assert_eq!(store.taken(), (1, SHORT - 1));

        let (turn_store, store, key) = stored(&vec![1; 20_000], 0).await;
        assert_eq!(turns(&turn_store, &key, RUN).await.expect("counted"), 20_000);
        let (requests, rows) = store.taken();
        assert!(requests <= 5 && rows == 0, "for the number of turns: {requests} requests, {rows} rows");
        for first in [0, 11_111, 19_900] {
            let found = part(&turn_store, &key, RUN, |_| first..first + 100).await.expect("read");
            assert_eq!((found.first, found.events.len(), found.total), (first, 100, 20_000));
            let (requests, rows) = store.taken();
            assert!(requests <= 15 && rows <= 200, "for 100 from {first}: {requests} requests, {rows} rows");
        }
    }

    #[test]
    fn numbers_between_two_others_lie_between_them_and_lead_to_the_end() {
        assert!(between(3, 4, 8).is_empty());
        assert_eq!(between(3, 7, 8), [4, 5, 6]);
        for (low, high) in [(0, 100), (5, u32::MAX), (0, 10)] {
            let found = between(low, high, 8);
            assert!(!found.is_empty() && found.len() <= 8 && found.is_sorted_by(|one, next| one < next), "{found:?}");
            assert!(found.iter().all(|number| (low + 1..high).contains(number)), "{found:?}");
        }
    }
}

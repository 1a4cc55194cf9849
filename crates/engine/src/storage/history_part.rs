//! A part of a long history, without reading the rest: turns say how many events are before them.

use std::ops::Range;

use partitura_broker::{Result, ScanRange};
use partitura_workflow::Event;

use crate::storage::history::{self, StoredTurn, run_prefix, turn_key};
use crate::storage::turn_store::{HISTORY, TurnStore};
use crate::wire::names::InstanceKey;

/// How many turns are read at a time.
const PAGE: usize = 256;

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
    async fn is_there(&self, turn: u32) -> Result<bool> {
        Ok(self.turn_store.get(HISTORY, turn_key(self.key, self.run, turn)).await?.is_some())
    }

    /// The last turn: turns have numbers without a gap, so it is found by halving.
    async fn last(&self) -> Result<Option<u32>> {
        if !self.is_there(0).await? {
            return Ok(None);
        }
        let (mut there, mut missing) = (0, 1);
        while self.is_there(missing).await? {
            (there, missing) = (missing, missing.saturating_mul(2));
        }
        while missing - there > 1 {
            let middle = there + (missing - there) / 2;
            match self.is_there(middle).await? {
                true => there = middle,
                false => missing = middle,
            }
        }
        Ok(Some(there))
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
        while behind - fits > 1 {
            let middle = fits + (behind - fits) / 2;
            let found = history::turn(self.turn_store, (self.key, self.run), middle).await?;
            match found.and_then(|turn| turn.before) {
                Some(before) if before <= number => fits = middle,
                Some(_) => behind = middle,
                None => return Ok(None),
            }
        }
        Ok(Some(fits))
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use partitura_broker::Broker;
    use partitura_embedded::{Embedded, Options};
    use partitura_workflow::EventKind;

    use super::*;
    use crate::storage::history::Place;
    use crate::storage::store::{BrokerStore, Store};
    use crate::wire::Payloads;
    use crate::wire::namespace::Namespace;

    const RUN: &str = "run";

    /// A history whose turns have these numbers of events; turns before `numbered` are those of an older program.
    async fn stored(turns: &[usize], numbered: u32) -> (TurnStore, InstanceKey) {
        let broker: Arc<dyn Broker> = Arc::new(Embedded::memory(Options::default()).expect("memory"));
        let store = Arc::new(BrokerStore::new(broker.clone()).expect("it keeps state"));
        let key = InstanceKey::new("Long", "l-1");
        let mut before = 0;
        for (turn, events) in (0..).zip(turns) {
            let known = (turn > 0 && turn >= numbered).then_some(before);
            let place = Place { turn, before: known, build: "1" };
            let fired = |number| EventKind::TimerFired { seq: number as u32 };
            let of_turn: Vec<Event> =
                (before..before + events).map(|number| Event::new(number as u64, fired(number))).collect();
            let put = history::append(&Payloads::default(), &key, RUN, place, &of_turn);
            store.write(vec![vec![put]]).await.pop().expect("one answer").expect("written");
            before += events;
        }
        (TurnStore::of_client(&broker, Some(store), Namespace::default()), key)
    }

    #[tokio::test]
    async fn a_part_is_that_of_the_whole_whichever_it_is_and_whoever_wrote_the_turns() {
        let turns: Vec<usize> = (0..600).map(|turn| [1, 3, 0, 2, 7][turn % 5]).collect();
        let shapes: [(&[usize], u32); 5] = [(&turns, 0), (&turns, 400), (&turns, 600), (&[2], 0), (&[], 0)];
        for (turns, numbered) in shapes {
            let (turn_store, key) = stored(turns, numbered).await;
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
}

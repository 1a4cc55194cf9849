use std::collections::HashMap;

use super::violation::Violation;
use crate::history::{History, Record};

/// Checks that, for each subscription and key, at most one message is with a handler, in all processes together.
///
/// # Errors
/// The first handler that begins before another of its key has ended.
pub fn one_at_a_time(history: &History) -> Result<(), Violation> {
    type Running<'h> = HashMap<(&'h str, &'h str), ((u32, u32), &'h str)>;
    let mut running: Running<'_> = HashMap::new();
    for entry in history.entries() {
        match &entry.record {
            Record::Started { lanes, subscription, key: Some(key), id, .. } => {
                let mine = ((entry.process, *lanes), id.as_str());
                if let Some((_, other)) = running.insert((subscription, key), mine) {
                    let what = format!("{id} begins while {other} of the same key runs");
                    return Err(Violation::new("one_at_a_time", what).at(entry));
                }
            }
            Record::Ended { lanes, id, .. } => {
                running.retain(|_, value| *value != ((entry.process, *lanes), id.as_str()));
            }
            Record::Killed => running.retain(|_, ((process, _), _)| *process != entry.process),
            _ => {}
        }
    }
    Ok(())
}

/// Checks that the runs of each message are counted from 1, without a gap, in each process.
///
/// # Errors
/// The first run with a wrong number.
pub fn attempts_count(history: &History) -> Result<(), Violation> {
    let mut last: HashMap<(u32, &str), u32> = HashMap::new();
    for entry in history.entries() {
        let Record::Started { id, attempt, .. } = &entry.record else { continue };
        let before = last.insert((entry.process, id), *attempt).unwrap_or_default();
        if *attempt != before + 1 {
            let what = format!("attempt {attempt} of {id} comes after attempt {before}");
            return Err(Violation::new("attempts_count", what).at(entry));
        }
    }
    Ok(())
}

/// Checks that, for each subscription and key, first runs follow the order of publishing, and that the last run of
/// a message ends before the first run of the next one.
///
/// # Errors
/// The first run that comes too soon.
pub fn runs_in_order(history: &History) -> Result<(), Violation> {
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut furthest: HashMap<(&str, &str), (usize, &str)> = HashMap::new();
    for entry in history.entries() {
        match &entry.record {
            Record::Publishing { sent, .. } => {
                let next = places.len();
                places.entry(&sent.id).or_insert(next);
            }
            Record::Started { subscription, key: Some(key), id, .. } => {
                let Some(place) = places.get(id.as_str()).copied() else { continue };
                let (before, other) = furthest.entry((subscription, key)).or_insert((place, id));
                if place < *before {
                    let what = format!("{id} runs after {other}, which was published later");
                    return Err(Violation::new("runs_in_order", what).at(entry));
                }
                (*before, *other) = (place, id);
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::Script;

    #[test]
    fn handlers_of_different_keys_may_overlap_and_those_of_one_may_not() {
        assert_eq!(
            one_at_a_time(&Script::queue(1).started("k-1", 1).started("j-1", 1).ended("k-1").started("k-2", 1).done()),
            Ok(())
        );
        assert!(one_at_a_time(&Script::queue(1).started("k-1", 1).started("k-2", 1).done()).is_err());
    }

    #[test]
    fn a_handler_ends_with_its_process() {
        let history = Script::queue(1).process(1).started("k-1", 1).killed().process(2).started("k-1", 1).done();
        assert_eq!(one_at_a_time(&history), Ok(()));
    }

    #[test]
    fn attempts_are_counted_from_one_without_a_gap() {
        assert_eq!(attempts_count(&Script::queue(1).started("k-1", 1).ended("k-1").started("k-1", 2).done()), Ok(()));
        assert!(attempts_count(&Script::queue(1).started("k-1", 1).ended("k-1").started("k-1", 3).done()).is_err());
        assert!(attempts_count(&Script::queue(1).started("k-1", 0).done()).is_err());
    }

    #[test]
    fn a_message_does_not_run_after_one_that_was_published_later() {
        let published = || Script::queue(1).publish(&["k-1", "k-2", "j-1"]);
        let retried = published().started("k-1", 1).ended("k-1").started("k-1", 2).ended("k-1").started("k-2", 1);
        assert_eq!(runs_in_order(&retried.done()), Ok(()));
        assert_eq!(runs_in_order(&published().started("j-1", 1).started("k-1", 1).done()), Ok(()));
        let overtaken = published().started("k-1", 1).ended("k-1").started("k-2", 1).ended("k-2").started("k-1", 2);
        assert!(runs_in_order(&overtaken.done()).unwrap_err().what.contains("k-1 runs after k-2"));
    }
}

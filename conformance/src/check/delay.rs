use std::collections::HashMap;

use super::violation::Violation;
use crate::history::{History, Record};

/// Checks that no message is delivered before its time, on the wall clock of the receiving process.
///
/// # Errors
/// The first delivery that is early, and the time by which it is.
pub fn never_early(history: &History) -> Result<(), Violation> {
    for (entry, delivered) in history.deliveries() {
        if let Some(due) = delivered.message.due.filter(|due| entry.wall < *due) {
            let what = format!("{} comes {} ms early", delivered.message.id, due - entry.wall);
            return Err(Violation::new("never_early", what).at(entry));
        }
    }
    Ok(())
}

/// Checks that delayed messages of one key, in a topic with one subscription, come for the first time in the order in
/// which they fall due. Messages that are due in the same millisecond come in the order of publishing. A message that
/// was confirmed less than `margin` milliseconds before the earlier of two is due is left out.
///
/// # Errors
/// The first delivery that is overtaken by one that is due earlier.
pub fn due_order(history: &History, margin: u64) -> Result<(), Violation> {
    /// The due time of a message, and its number among all published ones.
    type Place = (u64, usize);
    /// A first delivery: its place, the time of its confirm, and its id.
    type First<'a> = (Place, u64, &'a str);
    let mut places: HashMap<&str, (Place, Option<u64>)> = HashMap::new();
    let mut last: HashMap<(&str, &str), Vec<First>> = HashMap::new();
    for (number, entry) in history.entries().iter().enumerate() {
        match &entry.record {
            Record::Publishing { sent, .. } => {
                if let Some(due) = sent.due {
                    places.entry(&sent.id).or_insert(((due, number), None));
                }
            }
            Record::Published { id, outcome: Ok(_), .. } => {
                if let Some((_, confirmed)) = places.get_mut(id.as_str()) {
                    confirmed.get_or_insert(entry.wall);
                }
            }
            Record::Delivered(delivered) => {
                let sent = &delivered.message;
                // It is removed, since only the first delivery counts.
                let Some((place, Some(confirmed))) = places.remove(sent.id.as_str()) else { continue };
                let Some(key) = &sent.key else { continue };
                let line = last.entry((&sent.topic, key)).or_default();
                let in_time = |at: u64| at + margin <= place.0;
                let before = line.iter().find(|(other, at, _)| *other > place && in_time(confirmed) && in_time(*at));
                if let Some(((due, _), _, id)) = before {
                    let what = format!("{}, due at {}, comes behind {id}, due at {due}", sent.id, place.0);
                    return Err(Violation::new("due_order", what).at(entry));
                }
                line.push((place, confirmed, &sent.id));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The lateness of delayed messages, in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lateness {
    sorted: Vec<u64>,
}

impl Lateness {
    /// Makes it from these values, in milliseconds.
    pub fn new(mut values: Vec<u64>) -> Self {
        values.sort_unstable();
        Self { sorted: values }
    }

    /// The value below which this part of all values lies, from 0 to 1. 0 if there are no values.
    pub fn quantile(&self, part: f64) -> u64 {
        let last = self.sorted.len().saturating_sub(1);
        self.sorted.get(((last as f64) * part).ceil() as usize).copied().unwrap_or_default()
    }

    /// All values, from the least to the greatest.
    pub fn values(&self) -> &[u64] {
        &self.sorted
    }
}

/// The lateness of the first delivery of every delayed message that was not due when it was published.
pub fn lateness(history: &History) -> Lateness {
    use std::collections::HashSet;

    let mut published: HashMap<&str, u64> = HashMap::new();
    let mut seen: HashSet<&str> = HashSet::new();
    let mut sorted = Vec::new();
    for entry in history.entries() {
        match &entry.record {
            Record::Publishing { sent, .. } => {
                published.entry(&sent.id).or_insert(entry.wall);
            }
            Record::Delivered(got) => {
                let Some(due) = got.message.due else { continue };
                let waited = published.get(got.message.id.as_str()).is_some_and(|at| *at < due);
                if waited && seen.insert(&got.message.id) {
                    sorted.push(entry.wall.saturating_sub(due));
                }
            }
            _ => {}
        }
    }
    Lateness::new(sorted)
}

/// The times from the request to publish a message without delay until its first delivery.
pub fn delivery_times(history: &History) -> Lateness {
    let mut published: HashMap<&str, u64> = HashMap::new();
    let mut times = Vec::new();
    for entry in history.entries() {
        match &entry.record {
            Record::Publishing { sent, .. } if sent.due.is_none() => {
                published.entry(&sent.id).or_insert(entry.at);
            }
            Record::Delivered(got) => {
                // It is removed, since only the first delivery counts.
                times.extend(published.remove(got.message.id.as_str()).map(|at| (entry.at - at).div_ceil(1_000)));
            }
            _ => {}
        }
    }
    Lateness::new(times)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::Script;
    use crate::history::Sent;

    /// Published at about 1,000,003 ms, due at `due`, delivered `wait` ms after the assignment at 1,000,007.
    fn delayed(due: u64, wait: u64) -> History {
        let script = Script::queue(1);
        let sent = Sent { due: Some(due), ..script.sent("k-1") };
        let waiting = script.publish_as(sent.clone(), true).join(0).assigned(0, 0, 1).wait(wait);
        waiting.deliver_as(0, sent, 1, false).done()
    }

    #[test]
    fn what_comes_when_it_is_due_or_later_passes() {
        assert_eq!(never_early(&delayed(1_000_100, 100)), Ok(()));
        assert_eq!(never_early(&delayed(1_000_107, 100)), Ok(()));
    }

    #[test]
    fn a_millisecond_too_early_is_found() {
        assert!(never_early(&delayed(1_000_108, 100)).unwrap_err().what.contains("1 ms early"));
    }

    /// Two of a key that are published before a consumer joins, due at 1,000,100 and as given, delivered in this order.
    fn two(second: u64, order: [&str; 2]) -> History {
        let script = Script::queue(1);
        let sent = |id: &str, due| Sent { due: Some(due), ..Script::queue(1).sent(id) };
        let (one, two) = (sent("k-1", 1_000_100), sent("k-2", second));
        let script = script.publish_as(one.clone(), true).publish_as(two.clone(), true).join(0).assigned(0, 0, 1);
        let deliver = |script: Script, id: &str| {
            script.deliver_as(0, if id == "k-1" { one.clone() } else { two.clone() }, 1, false)
        };
        order.into_iter().fold(script.wait(1_000), deliver).done()
    }

    #[test]
    fn the_order_of_the_due_moments_passes_and_of_one_moment_that_of_publishing() {
        assert_eq!(due_order(&two(1_000_099, ["k-2", "k-1"]), 10), Ok(()));
        assert_eq!(due_order(&two(1_000_100, ["k-1", "k-2"]), 10), Ok(()));
    }

    #[test]
    fn what_is_overtaken_by_what_falls_due_later_is_found() {
        let found = due_order(&two(1_000_099, ["k-1", "k-2"]), 10).unwrap_err();
        assert!(found.what.contains("k-2, due at 1000099, comes behind k-1"), "{found}");
        assert!(due_order(&two(1_000_100, ["k-2", "k-1"]), 10).is_err());
    }

    #[test]
    fn what_was_confirmed_too_late_is_left_out() {
        assert_eq!(due_order(&two(1_000_099, ["k-1", "k-2"]), 98), Ok(()));
    }

    #[test]
    fn lateness_counts_from_the_due_moment_and_leaves_out_what_was_due_when_published() {
        assert_eq!(lateness(&delayed(1_000_100, 100)).values(), [7]);
        assert!(lateness(&delayed(999_999, 100)).values().is_empty());
    }

    #[test]
    fn quantiles_are_of_the_sorted_values() {
        let lateness = Lateness { sorted: (1..=100).collect() };
        assert_eq!([0.0, 0.5, 0.99, 1.0].map(|part| lateness.quantile(part)), [1, 51, 100, 100]);
        assert_eq!(Lateness::default().quantile(0.5), 0);
    }

    #[test]
    fn the_time_of_a_message_without_delay_ends_with_its_first_delivery() {
        let script = Script::queue(1).publish(&["k-1", "k-2"]).join(0).assigned(0, 0, 1);
        let history = script.wait(10).deliver(0, "k-1", 1).deliver_again(0, "k-1", 1).done();
        assert_eq!(delivery_times(&history).values(), [16]);
    }
}

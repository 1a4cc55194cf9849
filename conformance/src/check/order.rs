use std::collections::{HashMap, HashSet};

use super::members::{Id, Members};
use super::violation::Violation;
use crate::history::{History, Record, Sent, Token};

/// Checks, for each subscription, topic and key of an ordered topic, and within one term of a partition: deliveries
/// follow the order of publishing, and none overtakes an earlier message that was confirmed and neither settled nor
/// delivered in this term. So second deliveries repeat all unsettled messages, from the first one.
///
/// Delayed messages are left out, since they join the order when they are due. The order of publishing is the order in
/// which the calls began, so a case publishes a key's messages one call after another.
///
/// # Errors
/// The first delivery out of order.
pub fn in_order(history: &History) -> Result<(), Violation> {
    let lines = Lines::published(history);
    let mut members = Members::default();
    let mut settled: HashSet<(String, &str)> = HashSet::new();
    let mut of_token: HashMap<(u32, Token), (String, &str)> = HashMap::new();
    let mut terms: HashMap<(Id, u32, u32, LineId<'_>), usize> = HashMap::new();
    for entry in history.entries() {
        match &entry.record {
            // It is settled, or may be: a process that was killed did not learn the outcome.
            Record::Settling { token, .. } | Record::Committing { token } => {
                settled.extend(of_token.get(&(entry.process, *token)).cloned());
            }
            Record::Delivered(delivered) => {
                let id = (entry.process, delivered.consumer);
                let Some(member) = members.get(id).filter(|member| member.ordered) else { continue };
                let Some((subscription, _)) = &member.group else { continue };
                let (sent, token) = (&delivered.message, delivered.token);
                of_token.insert((entry.process, token), (subscription.clone(), &sent.id));
                let line_id = (sent.topic.as_str(), sent.key.as_deref());
                let Some((line, at)) = lines.find(sent) else { continue };
                let next = terms.entry((id, token.partition, token.epoch, line_id)).or_default();
                let done = |place: &Place<'_>| !place.confirmed || settled.contains(&(subscription.clone(), place.id));
                if at < *next && line[at].copies > 1 {
                    // Another copy of a message that was published again: it comes after the first.
                    continue;
                }
                if at < *next {
                    let what = format!("{} comes after {}", sent.id, line[*next - 1].id);
                    return Err(Violation::new("in_order", what).at(entry));
                }
                if let Some(overtaken) = line[*next..at].iter().find(|place| !done(place)) {
                    let what = format!("{} comes before {}, which is not settled", sent.id, overtaken.id);
                    return Err(Violation::new("in_order", what).at(entry));
                }
                *next = at + 1;
            }
            _ => members.apply(entry),
        }
    }
    Ok(())
}

/// A topic and a key.
type LineId<'h> = (&'h str, Option<&'h str>);

/// The messages of each key in the order of publishing.
struct Lines<'h> {
    lines: HashMap<LineId<'h>, Vec<Place<'h>>>,
    places: HashMap<(&'h str, &'h str), usize>,
}

struct Place<'h> {
    id: &'h str,
    /// The number of times that it was published.
    copies: u32,
    confirmed: bool,
}

impl<'h> Lines<'h> {
    fn published(history: &'h History) -> Self {
        let mut refused: HashSet<(u64, &str)> = HashSet::new();
        let mut confirmed: HashSet<(u64, &str)> = HashSet::new();
        for entry in history.entries() {
            match &entry.record {
                Record::Published { call, id, outcome: Ok(_) } => confirmed.insert((*call, id)),
                // It is unknown whether it was stored: it may come.
                Record::Published { outcome: Err(kind), .. } if kind == "OutcomeUnknown" => continue,
                Record::Published { call, id, outcome: Err(_) } => refused.insert((*call, id)),
                _ => continue,
            };
        }
        let mut this = Self { lines: HashMap::new(), places: HashMap::new() };
        for entry in history.entries() {
            let Record::Publishing { call, sent } = &entry.record else { continue };
            if refused.contains(&(*call, &sent.id)) || sent.due.is_some() || sent.key.is_none() {
                continue;
            }
            let line = this.lines.entry((&sent.topic, sent.key.as_deref())).or_default();
            let confirmed = confirmed.contains(&(*call, &sent.id));
            // A message that is published again under the same id keeps the place of the first time.
            let at = *this.places.entry((&sent.topic, &sent.id)).or_insert_with(|| {
                line.push(Place { id: &sent.id, copies: 0, confirmed: false });
                line.len() - 1
            });
            if let Some(place) = line.get_mut(at) {
                place.confirmed |= confirmed;
                place.copies += 1;
            }
        }
        this
    }

    fn find<'a>(&'a self, sent: &'a Sent) -> Option<(&'a [Place<'h>], usize)> {
        let at = self.places.get(&(sent.topic.as_str(), sent.id.as_str()))?;
        Some((self.lines.get(&(sent.topic.as_str(), sent.key.as_deref()))?, *at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::Script;

    fn term() -> Script {
        Script::queue(1).publish(&["k-1", "k-2", "k-3", "j-1"]).join(0).assigned(0, 0, 1)
    }

    #[test]
    fn the_order_of_publishing_passes_and_keys_are_independent() {
        let history = term().deliver(0, "k-1", 1).deliver(0, "k-2", 1).deliver(0, "j-1", 1).deliver(0, "k-3", 1);
        assert_eq!(in_order(&history.done()), Ok(()));
        assert_eq!(in_order(&term().deliver(0, "j-1", 1).deliver(0, "k-1", 1).done()), Ok(()));
    }

    #[test]
    fn two_that_are_swapped_are_found() {
        let found = in_order(&term().deliver(0, "k-2", 1).deliver(0, "k-1", 1).done()).unwrap_err();
        assert!(found.what.contains("k-2 comes before k-1"), "{found}");
    }

    #[test]
    fn a_gap_that_nobody_settled_is_found() {
        assert!(in_order(&term().deliver(0, "k-1", 1).deliver(0, "k-3", 1).done()).is_err());
    }

    #[test]
    fn one_that_comes_twice_in_a_term_is_found() {
        let twice = term().deliver(0, "k-1", 1).deliver_again(0, "k-1", 1).done();
        assert!(in_order(&twice).unwrap_err().what.contains("k-1 comes after k-1"));
    }

    #[test]
    fn a_successor_replays_what_is_unsettled_in_order_and_skips_what_is_settled() {
        let held =
            || term().deliver(0, "k-1", 1).deliver(0, "k-2", 1).settle(0, "k-2").leave(0).join(1).assigned(1, 0, 2);
        assert_eq!(in_order(&held().deliver_again(1, "k-1", 2).deliver(1, "k-3", 2).done()), Ok(()));
        let overtaken = in_order(&held().deliver(1, "k-3", 2).deliver_again(1, "k-1", 2).done()).unwrap_err();
        assert!(overtaken.what.contains("k-3 comes before k-1"), "{overtaken}");
    }

    #[test]
    fn what_was_published_again_may_come_twice() {
        let again = || Script::queue(1).publish(&["k-1", "k-1", "k-2"]).join(0).assigned(0, 0, 1).deliver(0, "k-1", 1);
        assert_eq!(in_order(&again().deliver(0, "k-1", 1).deliver(0, "k-2", 1).done()), Ok(()));
        assert_eq!(in_order(&again().deliver(0, "k-2", 1).deliver(0, "k-1", 1).done()), Ok(()));
    }

    #[test]
    fn what_was_not_confirmed_may_be_missing_but_not_late() {
        let script = || {
            let script = Script::queue(1).publish(&["k-1"]);
            let unknown = script.sent("k-2");
            script.publish_as(unknown, false).publish(&["k-3"]).join(0).assigned(0, 0, 1).deliver(0, "k-1", 1)
        };
        assert_eq!(in_order(&script().deliver(0, "k-3", 1).done()), Ok(()));
        assert_eq!(in_order(&script().deliver(0, "k-2", 1).deliver(0, "k-3", 1).done()), Ok(()));
        assert!(in_order(&script().deliver(0, "k-3", 1).deliver(0, "k-2", 1).done()).is_err());
    }
}

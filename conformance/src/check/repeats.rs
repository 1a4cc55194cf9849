use std::collections::{HashMap, HashSet};

use super::members::{Id, Members};
use super::violation::Violation;
use crate::history::{History, Record, Token};

/// Checks, for each subscription, topic and key of an ordered topic: the order of the first deliveries is the order of
/// the key for ever. In each later term of a partition unsettled messages come in that order, and none is overtaken.
///
/// This also judges delayed messages, which join the order of their key when they fall due: a broker that forwards them
/// late must forward them once, to one place.
///
/// # Errors
/// The first delivery that is not in its place.
pub fn repeats_order(history: &History) -> Result<(), Violation> {
    let mut members = Members::default();
    let mut lines: HashMap<LineId<'_>, Line<'_>> = HashMap::new();
    let mut of_token: HashMap<(u32, Token), (LineId<'_>, &str)> = HashMap::new();
    for entry in history.entries() {
        match &entry.record {
            // It is settled, or may be: a process that was killed did not learn the outcome.
            Record::Settling { token, .. } | Record::Committing { token } => {
                if let Some((line, id)) = of_token.get(&(entry.process, *token)) {
                    lines.entry(line.clone()).or_default().settled.insert(id);
                }
            }
            Record::Delivered(delivered) => {
                let consumer = (entry.process, delivered.consumer);
                let Some(member) = members.get(consumer).filter(|member| member.ordered) else { continue };
                let (Some((subscription, _)), Some(key)) = (&member.group, &delivered.message.key) else { continue };
                let (sent, token) = (&delivered.message, delivered.token);
                let line_id = (subscription.clone(), sent.topic.as_str(), key.as_str());
                of_token.insert((entry.process, token), (line_id.clone(), &sent.id));
                let line = lines.entry(line_id).or_default();
                line.deliver((consumer, token.partition, token.epoch), &sent.id)
                    .map_err(|what| Violation::new("repeats_order", what).at(entry))?;
            }
            _ => members.apply(entry),
        }
    }
    Ok(())
}

/// A subscription, a topic and a key.
type LineId<'h> = (String, &'h str, &'h str);

/// A consumer's term in a partition.
type TermId = (Id, u32, u32);

/// The messages of one key.
#[derive(Default)]
struct Line<'h> {
    /// In the order of their first deliveries.
    ids: Vec<&'h str>,
    places: HashMap<&'h str, usize>,
    settled: HashSet<&'h str>,
    /// The messages that came in a term, and the place behind the last one.
    terms: HashMap<TermId, (HashSet<&'h str>, usize)>,
}

impl<'h> Line<'h> {
    fn deliver(&mut self, term: TermId, id: &'h str) -> Result<(), String> {
        let (seen, next) = self.terms.entry(term).or_default();
        // A second copy of a message may come at any time, behind the first.
        if self.settled.contains(id) || !seen.insert(id) {
            return Ok(());
        }
        let at = *self.places.entry(id).or_insert_with(|| {
            self.ids.push(id);
            self.ids.len() - 1
        });
        if at < *next {
            return Err(format!("{id} comes behind {}, which it came before", self.ids[*next - 1]));
        }
        let waiting = |other: &&&str| !self.settled.contains(**other) && !seen.contains(**other);
        if let Some(overtaken) = self.ids[*next..at].iter().find(waiting) {
            return Err(format!("{id} comes before {overtaken}, which is not settled and came first"));
        }
        *next = at + 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::Script;
    use crate::history::Sent;

    fn delayed(script: &Script, id: &str) -> Sent {
        Sent { due: Some(1), ..script.sent(id) }
    }

    /// Published: k-1, and k-2 with a delay; k-1 and k-2 have come, and then k-3; the next owner has joined.
    fn taken_over(settles: &[&str]) -> Script {
        let script = Script::queue(1).publish(&["k-1", "k-3"]);
        let late = delayed(&script, "k-2");
        let script = script.publish_as(late.clone(), true).join(0).assigned(0, 0, 1);
        let script = script.deliver(0, "k-1", 1).deliver_as(0, late, 1, false).deliver(0, "k-3", 1);
        let script = settles.iter().fold(script, |script, id| script.settle(0, id));
        script.leave(0).join(1).assigned(1, 0, 2)
    }

    fn again(script: Script, ids: &[&str]) -> Result<(), Violation> {
        let script = ids.iter().fold(script, |script, id| script.deliver_again(1, id, 2));
        repeats_order(&script.done())
    }

    #[test]
    fn a_successor_gets_delayed_messages_where_they_had_joined() {
        assert_eq!(again(taken_over(&[]), &["k-1", "k-2", "k-3"]), Ok(()));
        assert_eq!(again(taken_over(&["k-1"]), &["k-2", "k-3"]), Ok(()));
        assert_eq!(again(taken_over(&["k-2"]), &["k-1", "k-3"]), Ok(()));
    }

    #[test]
    fn a_delayed_message_that_is_forwarded_to_the_end_is_found() {
        let found = again(taken_over(&[]), &["k-1", "k-3", "k-2"]).expect_err("k-2 was before k-3");
        assert!(found.what.contains("k-3 comes before k-2"), "{found}");
        let found = again(taken_over(&[]), &["k-2", "k-1", "k-3"]).expect_err("k-1 was before k-2");
        assert!(found.what.contains("k-2 comes before k-1"), "{found}");
    }

    #[test]
    fn a_new_message_that_overtakes_an_unsettled_one_is_found() {
        let script = taken_over(&["k-1"]).publish(&["k-4"]);
        assert!(repeats_order(&script.deliver(1, "k-4", 2).done()).is_err());
    }

    #[test]
    fn a_second_copy_may_come_behind_the_first_and_a_settled_message_at_any_time() {
        assert_eq!(again(taken_over(&[]), &["k-1", "k-2", "k-3", "k-2"]), Ok(()));
        assert_eq!(again(taken_over(&["k-1"]), &["k-2", "k-1", "k-3"]), Ok(()));
    }
}

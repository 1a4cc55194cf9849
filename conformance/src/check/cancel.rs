use std::collections::{HashMap, VecDeque};

use super::violation::Violation;
use crate::history::{History, Record};

/// Checks that a message which was cancelled while it waited is never delivered, before or after. If it was published
/// several times under its id, this holds for deliveries after the answer, and only if all copies were confirmed before
/// the request.
///
/// # Errors
/// The first delivery of a cancelled message.
pub fn cancelled_stays_away(history: &History) -> Result<(), Violation> {
    let mut messages: HashMap<(&str, &str), Story> = HashMap::new();
    // Answers do not name a topic. They come in the order of the batch.
    let mut topics: HashMap<(u64, &str), VecDeque<&str>> = HashMap::new();
    for (at, entry) in history.entries().iter().enumerate() {
        match &entry.record {
            Record::Publishing { call, sent } => {
                topics.entry((*call, &sent.id)).or_default().push_back(&sent.topic);
                let story = messages.entry((&sent.topic, &sent.id)).or_default();
                story.published += 1;
                story.open += 1;
                story.cancelled = None;
            }
            Record::Published { call, id, outcome } => {
                let topic = topics.get_mut(&(*call, &**id)).and_then(VecDeque::pop_front);
                let story = topic.and_then(|topic| messages.get_mut(&(topic, &**id)));
                if let Some(story) = story.filter(|_| outcome.is_ok()) {
                    story.open -= 1;
                }
            }
            Record::Cancelling { call, topic, id } => {
                let story = messages.entry((topic, id)).or_default();
                // Unconfirmed messages may arrive after the request.
                let settled = story.open == 0;
                story.asked.insert(*call, settled.then_some(story.published));
            }
            Record::Cancelled { call, topic, id, outcome: Ok(true) } => {
                let story = messages.entry((topic, id)).or_default();
                let asked = story.asked.get(call).copied().flatten();
                if story.published == 1 || asked == Some(story.published) {
                    story.cancelled = Some(at);
                }
                story.was_cancelled = true;
            }
            _ => {}
        }
    }
    for (at, entry) in history.entries().iter().enumerate() {
        let Record::Delivered(delivered) = &entry.record else { continue };
        let (topic, id) = (delivered.message.topic.as_str(), delivered.message.id.as_str());
        let Some(story) = messages.get(&(topic, id)).filter(|story| story.was_cancelled) else { continue };
        if story.published == 1 || story.cancelled.is_some_and(|cancelled| cancelled < at) {
            return Err(Violation::new("cancelled_stays_away", format!("{id} comes, and was cancelled")).at(entry));
        }
    }
    Ok(())
}

/// The state of one id on one topic.
#[derive(Default)]
struct Story {
    published: usize,
    /// The number of unconfirmed ones so far.
    open: usize,
    /// By call, the number of times that it had been published, if all were confirmed.
    asked: HashMap<u64, Option<usize>>,
    /// The entry of the answer that all copies were cancelled.
    cancelled: Option<usize>,
    was_cancelled: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::Script;

    fn cancelled(script: Script, call: u64, outcome: bool) -> Script {
        let (topic, id) = ("q".to_owned(), "k-1".to_owned());
        let asked = script.then(Record::Cancelling { call, topic: topic.clone(), id: id.clone() });
        asked.then(Record::Cancelled { call, topic, id, outcome: Ok(outcome) })
    }

    fn published() -> Script {
        Script::queue(1).join(0).assigned(0, 0, 1).publish(&["k-1"])
    }

    #[test]
    fn what_was_cancelled_never_comes_before_or_after() {
        assert!(cancelled_stays_away(&cancelled(published(), 1, true).deliver(0, "k-1", 1).done()).is_err());
        assert!(cancelled_stays_away(&cancelled(published().deliver(0, "k-1", 1), 1, true).done()).is_err());
        assert_eq!(cancelled_stays_away(&cancelled(published(), 1, true).deliver(0, "k-2", 1).done()), Ok(()));
    }

    #[test]
    fn what_was_not_waiting_may_come() {
        assert_eq!(cancelled_stays_away(&cancelled(published(), 1, false).deliver(0, "k-1", 1).done()), Ok(()));
    }

    #[test]
    fn what_is_published_after_it_was_cancelled_is_a_new_message() {
        let again = || cancelled(published(), 1, true).publish(&["k-1"]);
        assert_eq!(cancelled_stays_away(&again().deliver(0, "k-1", 1).done()), Ok(()));
        assert!(cancelled_stays_away(&cancelled(again(), 2, true).deliver(0, "k-1", 1).done()).is_err());
    }

    #[test]
    fn one_id_on_two_topics_is_two_messages() {
        let script = published();
        let (here, there) = (script.sent("k-2"), crate::history::Sent { topic: "p".into(), ..script.sent("k-2") });
        let both = [here, there].map(|sent| Record::Publishing { call: 7, sent });
        let answer = || Record::Published { call: 7, id: "k-2".into(), outcome: Ok(0) };
        let script = both.into_iter().fold(script, Script::then).then(answer()).then(answer());
        let (topic, id) = ("p".to_owned(), "k-2".to_owned());
        let script = script.then(Record::Cancelling { call: 8, topic: topic.clone(), id: id.clone() });
        let script = script.then(Record::Cancelled { call: 8, topic, id, outcome: Ok(true) });
        assert_eq!(cancelled_stays_away(&script.deliver(0, "k-2", 1).done()), Ok(()));
    }

    #[test]
    fn of_a_copy_that_is_on_its_way_nothing_is_known() {
        let script = published();
        let unknown = script.sent("k-1");
        let script = cancelled(script.publish_as(unknown, false), 1, true);
        assert_eq!(cancelled_stays_away(&script.deliver(0, "k-1", 1).done()), Ok(()));
    }
}

use std::time::Duration;

use partitura_broker::{Delivery, Message, TopicName};

use super::lane::Entry;
use super::model::Now;
use super::state::Core;
use super::suspicion::Note;
use crate::headers::{MARKER, PARKED, SUSPECT};

impl Core {
    /// Makes an entry of a delivery; `None` if it was a marker.
    pub(super) fn unpack(&mut self, mut delivery: Delivery, now: Now) -> Option<Entry> {
        let from_parking =
            self.settings.parking.as_ref().is_some_and(|parking| parking.topic == delivery.message.topic);
        let (mut label, redelivered) = (None, delivery.redelivered);
        if from_parking {
            if let Some(number) = delivery.message.headers.get_str(MARKER) {
                match number.parse() {
                    Ok(term) if self.settings.ordered => self.marker_returned(term, delivery.token, now),
                    _ => self.actions.settle.push(delivery.token),
                }
                return None;
            }
            label = delivery.message.headers.get_str(PARKED).and_then(Label::parse);
            let ordered = self.settings.ordered && delivery.message.key.is_some();
            let placed = label.as_ref().filter(|label| ordered && label.place != 0);
            if placed.is_some_and(|label| self.partitions.is_void(delivery.partition.0, label.term)) {
                self.actions.settle.push(delivery.token);
                return None;
            }
            delivery.message.headers.remove(PARKED);
            if let Some(label) = &label {
                delivery.message.topic = label.topic.clone();
                delivery.redelivered = true;
            }
        }
        let note = delivery.message.headers.get_str(SUSPECT).and_then(Note::parse);
        delivery.message.headers.remove(SUSPECT);
        let suspicion = self.suspicion(&delivery, note, redelivered);
        let wait = label
            .as_ref()
            .map_or(Duration::ZERO, |label| Duration::from_millis(label.retry_at.saturating_sub(now.wall.as_millis())));
        Some(Entry {
            since: now.steady,
            attempts: label.as_ref().map_or(0, |label| label.attempts),
            not_before: if wait.is_zero() { Duration::ZERO } else { now.steady + wait },
            place: label
                .filter(|label| label.place != 0 && delivery.message.key.is_some() && self.settings.ordered)
                .map(|label| label.place),
            from_parking,
            moving: false,
            suspicion,
            delivery,
        })
    }

    /// The message that takes the place of this one in the parking topic.
    pub(super) fn pack(&self, entry: &Entry, parking: &TopicName, now: Now) -> Message {
        let wait = entry.not_before.saturating_sub(now.steady);
        let label = Label {
            place: entry.place.unwrap_or_default(),
            attempts: entry.attempts,
            term: self.partitions.term(entry.delivery.partition.0),
            retry_at: if wait.is_zero() { 0 } else { (now.wall + wait).as_millis() },
            topic: entry.delivery.message.topic.clone(),
        };
        let mut message = entry.delivery.message.clone();
        message.topic = parking.clone();
        // It has passed; naming it again would send the message through the broker's delay.
        message.not_before = None;
        message.headers.insert(PARKED, label.to_string());
        if let Some(note) = entry.suspicion.note() {
            message.headers.insert(SUSPECT, note.to_string());
        }
        message
    }
}

/// The label of a message of `topic` that is put into the parking topic from outside: it has no place of its own, and
/// is handled as if it came from its topic now.
pub(crate) fn unplaced(topic: &TopicName) -> String {
    Label { place: 0, attempts: 0, term: 0, retry_at: 0, topic: topic.clone() }.to_string()
}

/// Reads the labels that a header of a parked message may have.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_labels(value: &str) {
    let _ = (Label::parse(value), Note::parse(value));
}

/// The value of [`PARKED`].
#[derive(Debug, Clone, PartialEq, Eq)]
struct Label {
    /// 0: none.
    place: u64,
    attempts: u32,
    /// The term of ownership in which it was written.
    term: u64,
    /// In milliseconds since the Unix epoch; 0: at once.
    retry_at: u64,
    topic: TopicName,
}

impl Label {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let label = Self {
            place: words.next()?.parse().ok()?,
            attempts: words.next()?.parse().ok()?,
            term: words.next()?.parse().ok()?,
            retry_at: words.next()?.parse().ok()?,
            topic: words.next()?.parse().ok()?,
        };
        words.next().is_none().then_some(label)
    }
}

impl std::fmt::Display for Label {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {} {} {}", self.place, self.attempts, self.term, self.retry_at, self.topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_survives_the_header() {
        let label = Label { place: u64::MAX, attempts: 3, term: 5, retry_at: 17, topic: "orders".parse().unwrap() };
        assert_eq!(Label::parse(&label.to_string()), Some(label));
        for broken in ["", "1 2 3 4", "1 2 3 4 a b", "1 2 3 4 a/b", "x 2 3 4 a"] {
            assert_eq!(Label::parse(broken), None, "{broken}");
        }
    }
}

use partitura_broker::{
    AckToken, Headers, Limits, Message, MessageId, Partition, Result, SubscriptionName, Timestamp, TopicName,
};

use crate::SubscriptionTopics;
use crate::headers::{
    DEAD, DEAD_AT, DEAD_ATTEMPTS, DEAD_ERROR, DEAD_ID, DEAD_PARTITION, DEAD_REASON, DEAD_SUBSCRIPTION, DEAD_TOPIC,
    REDRIVEN,
};

/// Number of bytes of a reason or an error that are kept: headers are small on every broker.
const TEXT: usize = 1_024;

/// A message that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The message as it was published: its topic, id, key, headers and payload.
    pub message: Message,
    /// Why it was given up, in a few words.
    pub reason: String,
    /// The last error, where there was one.
    pub error: Option<String>,
    /// How often it was run.
    pub attempts: u32,
    /// Where it came from.
    pub partition: Partition,
    /// The subscription that gave it up.
    pub subscription: String,
    /// When.
    pub at: Timestamp,
    /// How often it was redriven before.
    pub redriven: u32,
    pub(crate) token: AckToken,
}

/// Why and when a message was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenUp {
    /// Why, in a few words.
    pub reason: String,
    /// The last error, where there was one.
    pub error: Option<String>,
    /// How often it was run.
    pub attempts: u32,
    /// Where it came from.
    pub partition: Partition,
    /// When.
    pub at: Timestamp,
}

impl DeadLetter {
    /// The letter of `message`, to be published by a handler that gives it up itself, together with something else.
    /// `None` for a broadcast, which has no dead letters.
    ///
    /// Reason and error are cut so that the headers stay within `limits`.
    ///
    /// # Errors
    /// Those of building a name, which always fits.
    pub fn write(
        message: Message,
        source: &SubscriptionTopics,
        given_up: GivenUp,
        limits: &Limits,
    ) -> Result<Option<Message>> {
        let place = source.dead_topic()?.zip(source.subscription());
        Ok(place.map(|(dead, subscription)| write(message, dead, subscription, given_up, limits)))
    }

    /// The id of the message.
    pub fn id(&self) -> &MessageId {
        &self.message.id
    }

    /// Reads a letter. A message that another program wrote to the topic has "unknown" for each missing text.
    pub(crate) fn read(mut message: Message, source: &TopicName, token: AckToken) -> Self {
        let text = |name: &str| message.headers.get_str(name).map(str::to_owned);
        let number = |name: &str| message.headers.get_str(name).and_then(|text| text.parse::<u64>().ok());
        let small = |name: &str| number(name).and_then(|n| u32::try_from(n).ok()).unwrap_or_default();
        let unknown = || "unknown".to_owned();
        let (reason, error) = (text(DEAD_REASON).unwrap_or_else(unknown), text(DEAD_ERROR));
        let (attempts, partition, redriven) = (small(DEAD_ATTEMPTS), Partition(small(DEAD_PARTITION)), small(REDRIVEN));
        let subscription = text(DEAD_SUBSCRIPTION).unwrap_or_else(unknown);
        let at = Timestamp::from_millis(number(DEAD_AT).unwrap_or_default());
        message.topic = text(DEAD_TOPIC).and_then(|name| name.parse().ok()).unwrap_or_else(|| source.clone());
        DEAD.iter().for_each(|name| message.headers.remove(name));
        message.headers.remove(REDRIVEN);
        Self { message, reason, error, attempts, partition, subscription, at, redriven, token }
    }

    /// The message to publish to the original topic again.
    pub(crate) fn to_redrive(&self) -> Message {
        self.message.clone().header(REDRIVEN, self.redriven.saturating_add(1).to_string())
    }
}

/// The letter of a message that is given up. A letter always fits: it leaves out headers for which there is no room.
pub(crate) fn write(
    mut message: Message,
    dead: TopicName,
    subscription: &SubscriptionName,
    given_up: GivenUp,
    limits: &Limits,
) -> Message {
    let GivenUp { reason, error, attempts, partition, at } = given_up;
    let topic = std::mem::replace(&mut message.topic, dead);
    message.not_before = None;
    let facts = [
        (DEAD_ATTEMPTS, attempts.to_string()),
        (DEAD_TOPIC, topic.to_string()),
        (DEAD_PARTITION, partition.to_string()),
        (DEAD_SUBSCRIPTION, subscription.to_string()),
        (DEAD_AT, at.as_millis().to_string()),
        (DEAD_ID, message.id.to_string()),
    ];
    let headers = &mut message.headers;
    DEAD.iter().for_each(|name| headers.remove(name));
    add(headers, DEAD_REASON, reason, limits);
    if let Some(error) = error {
        // The facts come first where there is not room for all.
        let size: usize = facts.iter().map(|(name, text)| name.len() + text.len()).sum();
        let rest = Limits {
            headers: limits.headers.saturating_sub(facts.len()),
            header_bytes: limits.header_bytes.saturating_sub(size),
            ..*limits
        };
        add(headers, DEAD_ERROR, error, &rest);
    }
    for (name, text) in facts {
        add(headers, name, text, limits);
    }
    message
}

/// Adds a header where there is room for it. A text is cut to the room that is left.
fn add(headers: &mut Headers, name: &str, text: String, limits: &Limits) {
    let room = limits.header_bytes.saturating_sub(headers.size() + name.len());
    let is_text = name == DEAD_REASON || name == DEAD_ERROR;
    let text = if is_text { cut(text, TEXT.min(room)) } else { text };
    if headers.len() < limits.headers && !text.is_empty() && text.len() <= room {
        headers.insert(name, text);
    }
}

/// The text in at most `most` bytes.
fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        let most = most.saturating_sub('…'.len_utf8());
        let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
        text.truncate(end);
        if end > 0 {
            text.push('…');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_error_is_cut_between_characters() {
        let text = cut("ä".repeat(TEXT), TEXT);
        assert!(text.len() <= TEXT && text.ends_with("ä…"), "{}", text.len());
        assert_eq!(cut("short".into(), TEXT), "short");
        assert_eq!(cut("short".into(), 2), "");
    }

    #[test]
    fn a_letter_fits_however_full_the_headers_of_its_message_are() {
        let limits = Limits::default();
        let source = SubscriptionTopics::new(
            TopicName::new("orders").unwrap(),
            SubscriptionName::new("billing").unwrap(),
            partitura_broker::Ordering::Shared,
        );
        let given_up = || GivenUp {
            reason: "gave up after 3 attempts".into(),
            error: Some("x".repeat(16_300)),
            attempts: 3,
            partition: Partition(0),
            at: Timestamp::from_millis(7),
        };
        let message = |headers: usize, bytes: usize| {
            let message = Message::new(source.topic().clone(), "id", "");
            (0..headers).fold(message, |message, i| message.header(&format!("h{i:02}"), vec![b'v'; bytes]))
        };
        for (headers, bytes) in [(0, 0), (60, 1), (64, 1), (1, 15_000), (1, 16_100), (1, 16_384 - 3)] {
            let letter = DeadLetter::write(message(headers, bytes), &source, given_up(), &limits).unwrap().unwrap();
            let found = (letter.headers.len(), letter.headers.size());
            assert!(found.0 <= limits.headers && found.1 <= limits.header_bytes, "{headers} × {bytes}: {found:?}");
            assert!((0..headers).all(|i| letter.headers.get(&format!("h{i:02}")).is_some()));
        }
        let letter = DeadLetter::write(message(1, 15_000), &source, given_up(), &limits).unwrap().unwrap();
        assert_eq!(letter.headers.get_str(DEAD_REASON), Some("gave up after 3 attempts"));
        assert!(letter.headers.get_str(DEAD_ERROR).is_some_and(|error| error.ends_with("x…")));
    }
}

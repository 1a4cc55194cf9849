use partitura_broker::{AckToken, Message, MessageId, Partition, SubscriptionName, Timestamp, TopicName};

use crate::core::Burial;
use crate::headers::{
    DEAD, DEAD_AT, DEAD_ATTEMPTS, DEAD_ERROR, DEAD_ID, DEAD_PARTITION, DEAD_REASON, DEAD_SUBSCRIPTION, DEAD_TOPIC,
    REDRIVEN,
};

/// How much of a reason or an error is kept, in bytes: headers are small on every broker.
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
    /// Who gave it up.
    pub subscription: String,
    /// When.
    pub at: Timestamp,
    /// How often it was redriven before.
    pub redriven: u32,
    pub(crate) token: AckToken,
}

impl DeadLetter {
    /// The id of the message.
    pub fn id(&self) -> &MessageId {
        &self.message.id
    }

    /// Reads a letter. What was written to the topic by somebody else has "unknown" for what it does not say.
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
        self.message.clone().header(REDRIVEN, (self.redriven + 1).to_string())
    }
}

/// The letter of a message that is given up.
pub(crate) fn write(burial: Burial, dead: TopicName, subscription: &SubscriptionName, now: Timestamp) -> Message {
    let Burial { delivery, attempts, death, .. } = burial;
    let mut message = delivery.message;
    let topic = std::mem::replace(&mut message.topic, dead);
    message.not_before = None;
    let id = message.id.to_string();
    let headers = &mut message.headers;
    headers.insert(DEAD_REASON, cut(death.reason));
    headers.remove(DEAD_ERROR);
    if let Some(error) = death.error {
        headers.insert(DEAD_ERROR, cut(error));
    }
    headers.insert(DEAD_ATTEMPTS, attempts.to_string());
    headers.insert(DEAD_TOPIC, topic.to_string());
    headers.insert(DEAD_PARTITION, delivery.partition.to_string());
    headers.insert(DEAD_SUBSCRIPTION, subscription.to_string());
    headers.insert(DEAD_AT, now.as_millis().to_string());
    headers.insert(DEAD_ID, id);
    message
}

fn cut(mut text: String) -> String {
    if text.len() > TEXT {
        let end = (0..=TEXT - '…'.len_utf8()).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_error_is_cut_between_characters() {
        let text = cut("ä".repeat(TEXT));
        assert!(text.len() <= TEXT && text.ends_with("ä…"), "{}", text.len());
        assert_eq!(cut("short".into()), "short");
    }
}

//! The history of a case: one list, written by the [recorder](crate::Recorder), read by the [checks](crate::check).

use std::fmt;

use partitura_broker::{AckToken, Message};
use serde::{Deserialize, Serialize};

/// All entries, in the order of time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    entries: Vec<Entry>,
}

impl History {
    /// Sorts entries by time; entries of the same time keep their order.
    pub fn new(mut entries: Vec<Entry>) -> Self {
        entries.sort_by_key(|entry| entry.at);
        Self { entries }
    }

    /// The entries, oldest first.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The last entries as text, one a line, for the report of a failure.
    pub fn tail(&self, count: usize) -> String {
        let from = self.entries.len().saturating_sub(count);
        let mut text = if from > 0 { format!("… {from} earlier entries\n") } else { String::new() };
        for entry in &self.entries[from..] {
            text += &format!("{entry}\n");
        }
        text
    }

    /// An entry, marked, with as many entries before it and after it as are asked for. `None`: there is no such entry.
    pub fn around(&self, entry: &Entry, each: usize) -> Option<String> {
        let at = self.entries.iter().position(|other| other == entry)?;
        let (from, to) = (at.saturating_sub(each), (at + each + 1).min(self.entries.len()));
        let more =
            |count: usize, what: &str| if count > 0 { format!("… {count} {what} entries\n") } else { String::new() };
        let mut text = more(from, "earlier");
        for (number, entry) in self.entries.iter().enumerate().take(to).skip(from) {
            text += &format!("{} {entry}\n", if number == at { ">" } else { " " });
        }
        Some(text + &more(self.entries.len() - to, "later"))
    }

    /// Every delivery, with its entry.
    pub fn deliveries(&self) -> impl Iterator<Item = (&Entry, &Delivered)> {
        self.entries.iter().filter_map(|entry| match &entry.record {
            Record::Delivered(delivered) => Some((entry, delivered)),
            _ => None,
        })
    }
}

/// One entry of a history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Microseconds since the case began, on a clock that never jumps within a process.
    pub at: u64,
    /// The wall clock then, in milliseconds since the Unix epoch.
    pub wall: u64,
    /// The process: 0 runs the case and has started the others.
    pub process: u32,
    /// The event.
    pub record: Record,
}

/// An action or an event. A request is recorded *before* it is sent, and its outcome *after* the answer. So a process
/// that is killed in between leaves a request without an answer, and never a false entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// A topic exists.
    Topic {
        /// Its name.
        topic: String,
        /// Its partitions; `None` where it is shared.
        partitions: Option<u32>,
    },
    /// A durable subscription of a topic exists.
    Subscription {
        /// The topic.
        topic: String,
        /// Its name.
        subscription: String,
    },
    /// A message is about to be published.
    Publishing {
        /// Which call; the messages of a batch share it.
        call: u64,
        /// The message.
        sent: Sent,
    },
    /// The answer to it.
    Published {
        /// Which call.
        call: u64,
        /// Of which message.
        id: String,
        /// Its partition, or the kind of the error.
        outcome: Result<u32, String>,
    },
    /// A delayed message is about to be cancelled.
    Cancelling {
        /// The number of the call; messages that are cancelled together share it.
        call: u64,
        /// The topic.
        topic: String,
        /// Its id.
        id: String,
    },
    /// The answer to it.
    Cancelled {
        /// Which call.
        call: u64,
        /// The topic.
        topic: String,
        /// Of which message.
        id: String,
        /// Whether it was waiting, or the kind of the error.
        outcome: Result<bool, String>,
    },
    /// A consumer was opened.
    Joined {
        /// The recorder's number of it, unique in the process.
        consumer: u32,
        /// Its topics.
        topics: Vec<String>,
        /// Its subscription; `None` for a broadcast.
        subscription: Option<String>,
        /// The number of messages of a topic that it may hold.
        messages: usize,
        /// The number of bytes of a topic that it may hold.
        bytes: usize,
    },
    /// A consumer owns a partition from now on.
    Assigned {
        /// The consumer.
        consumer: u32,
        /// The partition.
        partition: u32,
        /// The term.
        epoch: u32,
    },
    /// A consumer is asked to give a partition back.
    Revoking {
        /// The consumer.
        consumer: u32,
        /// The partition.
        partition: u32,
        /// The time to release it, in microseconds.
        within: u64,
    },
    /// A consumer was told that a partition is no longer its own.
    Lost {
        /// The consumer.
        consumer: u32,
        /// The partition.
        partition: u32,
    },
    /// A consumer is about to give a partition back.
    Releasing {
        /// The consumer.
        consumer: u32,
        /// The partition.
        partition: u32,
    },
    /// A message was delivered.
    Delivered(Delivered),
    /// A delivery is about to be settled.
    Settling {
        /// By which consumer.
        consumer: u32,
        /// Which.
        token: Token,
    },
    /// All settlements of a consumer so far are final.
    Flushed {
        /// The consumer.
        consumer: u32,
    },
    /// A transaction is about to settle a delivery.
    Committing {
        /// Which.
        token: Token,
    },
    /// A transaction settled a delivery, for good.
    Committed {
        /// Which.
        token: Token,
    },
    /// A consumer is about to be closed, or dropped.
    Leaving {
        /// The consumer.
        consumer: u32,
    },
    /// A handler of the lanes began with a message.
    Started {
        /// The lanes' number, unique in the process.
        lanes: u32,
        /// The subscription.
        subscription: String,
        /// The message's key.
        key: Option<String>,
        /// The message's id.
        id: String,
        /// Which run, from 1.
        attempt: u32,
    },
    /// A handler of the lanes was done with it.
    Ended {
        /// The lanes' number.
        lanes: u32,
        /// The message's id.
        id: String,
        /// "done", "retry", …
        outcome: String,
    },
    /// This process is about to be killed.
    Killed,
    /// Its process stands still from now on. Its partitions may go to others, and it learns that later.
    Frozen,
    /// Its process goes on.
    Thawed,
    /// A note of the case.
    Note(String),
}

/// The part of a message that checks need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Its topic.
    pub topic: String,
    /// Its id.
    pub id: String,
    /// Its key, escaped; `None` is not the empty key.
    pub key: Option<String>,
    /// Bytes of key, headers and payload.
    pub size: usize,
    /// A hash over key, headers and payload, byte for byte.
    pub digest: u64,
    /// The earliest time of delivery, in milliseconds since the Unix epoch.
    pub due: Option<u64>,
}

/// A message that was handed to a consumer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    /// The consumer.
    pub consumer: u32,
    /// The message.
    pub message: Sent,
    /// Whether it may have come before.
    pub redelivered: bool,
    /// The token for settling it.
    pub token: Token,
}

/// An [`AckToken`] as plain data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Token {
    /// The broker's number of the consumer.
    pub consumer: u32,
    /// The partition.
    pub partition: u32,
    /// The term.
    pub epoch: u32,
    /// The number of the delivery.
    pub slot: u32,
}

impl From<&AckToken> for Token {
    fn from(token: &AckToken) -> Self {
        let AckToken { consumer, partition, epoch, slot } = *token;
        Self { consumer, partition: partition.0, epoch, slot }
    }
}

impl From<&Message> for Sent {
    fn from(message: &Message) -> Self {
        Self {
            topic: message.topic.to_string(),
            id: message.id.to_string(),
            key: message.key.as_ref().map(|key| key.escape_ascii().to_string()),
            size: message.size(),
            digest: digest(message),
            due: message.not_before.map(|due| due.as_millis()),
        }
    }
}

/// FNV-1a, with lengths between the parts.
fn digest(message: &Message) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut part = |bytes: &[u8]| {
        for byte in (bytes.len() as u64).to_le_bytes().iter().chain(bytes) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    part(message.key.as_deref().unwrap_or(b"none"));
    part(&[u8::from(message.key.is_some())]);
    for (name, value) in message.headers.iter() {
        part(name.as_bytes());
        part(value);
    }
    part(&message.payload);
    hash
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>12.3} ms  p{}  {}", self.at as f64 / 1_000.0, self.process, self.record)
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic { topic, partitions: Some(n) } => write!(f, "topic {topic} with {n} partitions"),
            Self::Topic { topic, partitions: None } => write!(f, "shared topic {topic}"),
            Self::Subscription { topic, subscription } => write!(f, "subscription {subscription} of {topic}"),
            Self::Publishing { call, sent } => write!(f, "publish #{call} {sent}"),
            Self::Published { call, id, outcome: Ok(p) } => write!(f, "confirmed #{call} {id} in partition {p}"),
            Self::Published { call, id, outcome: Err(kind) } => write!(f, "failed #{call} {id}: {kind}"),
            Self::Cancelling { call, topic, id } => write!(f, "cancel #{call} {id} on {topic}"),
            Self::Cancelled { call, id, outcome: Ok(true), .. } => write!(f, "cancelled #{call} {id}"),
            Self::Cancelled { call, id, outcome: Ok(false), .. } => write!(f, "nothing to cancel #{call} {id}"),
            Self::Cancelled { call, id, outcome: Err(kind), .. } => write!(f, "not cancelled #{call} {id}: {kind}"),
            Self::Joined { consumer, topics, subscription, messages, bytes } => {
                let subscription = subscription.as_deref().unwrap_or("a broadcast");
                write!(f, "c{consumer} joins {subscription} of {topics:?}, credit {messages} / {bytes} B")
            }
            Self::Assigned { consumer, partition, epoch } => write!(f, "c{consumer} assigned {partition} @{epoch}"),
            Self::Revoking { consumer, partition, within } => {
                write!(f, "c{consumer} revoking {partition} within {} ms", within / 1_000)
            }
            Self::Lost { consumer, partition } => write!(f, "c{consumer} lost {partition}"),
            Self::Releasing { consumer, partition } => write!(f, "c{consumer} releases {partition}"),
            Self::Delivered(Delivered { consumer, message, redelivered, token }) => {
                let again = if *redelivered { " again" } else { "" };
                let Token { partition, epoch, slot, .. } = token;
                write!(f, "c{consumer} gets {message}{again} from {partition} @{epoch} slot {slot}")
            }
            Self::Settling { consumer, token } => {
                write!(f, "c{consumer} settles slot {} of {} @{}", token.slot, token.partition, token.epoch)
            }
            Self::Flushed { consumer } => write!(f, "c{consumer} flushed"),
            Self::Committing { token } => write!(f, "commits slot {} of {}", token.slot, token.partition),
            Self::Committed { token } => write!(f, "committed slot {} of {}", token.slot, token.partition),
            Self::Leaving { consumer } => write!(f, "c{consumer} leaves"),
            Self::Started { lanes, id, attempt, .. } => write!(f, "l{lanes} runs {id}, attempt {attempt}"),
            Self::Ended { lanes, id, outcome } => write!(f, "l{lanes} ends {id}: {outcome}"),
            Self::Killed => f.write_str("is killed"),
            Self::Frozen => f.write_str("is frozen"),
            Self::Thawed => f.write_str("is thawed"),
            Self::Note(text) => f.write_str(text),
        }
    }
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.id, self.topic)?;
        self.key.as_ref().map_or(Ok(()), |key| write!(f, " key {:.40}", key))?;
        self.due.map_or(Ok(()), |due| write!(f, " due {due}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(count: u64) -> History {
        let entry = |at| Entry { at, wall: 0, process: 0, record: Record::Note(format!("n{at}")) };
        History::new((0..count).map(entry).collect())
    }

    #[test]
    fn an_entry_is_shown_with_its_neighbours() {
        let history = history(100);
        let text = history.around(&history.entries()[50], 20).expect("it is there");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 43, "{text}");
        assert_eq!((lines[0], lines[42]), ("… 30 earlier entries", "… 29 later entries"));
        assert!(lines[21].starts_with("> ") && lines[21].ends_with(" n50"), "{text}");
        assert!(lines[1].ends_with(" n30") && lines[41].ends_with(" n70"), "{text}");
    }

    #[test]
    fn at_an_end_there_are_fewer_neighbours_and_elsewhere_none() {
        let history = history(3);
        let text = history.around(&history.entries()[0], 20).expect("it is there");
        assert_eq!(text.lines().count(), 3, "{text}");
        assert_eq!(History::default().around(&history.entries()[0], 20), None);
    }
}

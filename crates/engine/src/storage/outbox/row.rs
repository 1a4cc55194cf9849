//! The content of rows of the outbox, and their keys.

use bytes::Bytes;
use partitura_broker::{Error, ErrorKind, Message, Partition, Result, Space, Timestamp, TopicName};
use serde::{Deserialize, Serialize};

use crate::wire;

/// `workflow NUL partition id NUL run NUL turn` → the messages of the turn.
pub(super) const OUTBOX: Space = "outbox";
/// `workflow NUL id NUL run NUL turn` → the messages of the turn that the broker refuses, and why.
pub(super) const REFUSED: Space = "refused";

/// How many rows are read, or removed, at a time.
pub(super) const PAGE: usize = 500;

/// The number in the key of a row whose turn has none, since it left no events. The name of a message tells such rows
/// apart.
const NO_TURN: u32 = u32::MAX;

/// The turn that a row belongs to.
pub(super) struct Origin<'a> {
    pub(super) id: &'a str,
    pub(super) run: &'a str,
    turn: u32,
    message: &'a str,
    /// The key without workflow and partition.
    rest: &'a [u8],
}

impl<'a> Origin<'a> {
    pub(super) fn parse(workflow: &str, key: &'a Bytes) -> Option<Self> {
        let rest = key.get(workflow.len() + 1 + size_of::<u32>()..)?;
        let (id, behind) = name(rest)?;
        let (run, behind) = name(behind)?;
        let (turn, message) = behind.split_at_checked(size_of::<u32>())?;
        let (turn, message) = (u32::from_be_bytes(turn.try_into().ok()?), std::str::from_utf8(message).ok()?);
        Some(Self { id, run, turn, message, rest })
    }

    /// Names the row among all of its workflow.
    pub(super) fn name(&self) -> String {
        if self.turn == NO_TURN { self.message.to_owned() } else { format!("{}.{}", self.run, self.turn) }
    }

    /// The key under which is kept what the broker refuses of it.
    pub(super) fn aside(&self, workflow: &str) -> Bytes {
        [workflow.as_bytes(), b"\0", self.rest].concat().into()
    }
}

/// A text that ends with NUL, and what is behind it.
fn name(key: &[u8]) -> Option<(&str, &[u8])> {
    let end = key.iter().position(|byte| *byte == 0)?;
    Some((std::str::from_utf8(&key[..end]).ok()?, &key[end + 1..]))
}

/// Stands for the key of the turn's row in the history where the turn left no events.
pub(super) fn without_turn(run_prefix: &Bytes, message: &Message) -> Bytes {
    [&run_prefix[..], &NO_TURN.to_be_bytes(), message.id.as_str().as_bytes()].concat().into()
}

/// The key of an outbox row, from that of the turn's row in the history; of an empty one, the prefix of a partition.
pub(super) fn outbox_key(workflow: &str, partition: Partition, history: &Bytes) -> Bytes {
    let rest = history.get(workflow.len() + 1..).unwrap_or_default();
    [workflow.as_bytes(), b"\0", &partition.0.to_be_bytes(), rest].concat().into()
}

pub(super) fn damaged(key: &Bytes, problem: &str) -> Error {
    let key = String::from_utf8_lossy(key).replace('\0', "/");
    Error::new(ErrorKind::Corrupt, "recover", problem).of(format!("outbox row {key}"))
}

/// The messages of one turn that were set aside.
#[derive(Serialize, Deserialize)]
pub(super) struct Aside {
    pub(super) reason: String,
    pub(super) messages: Vec<Kept>,
}

/// A message as the outbox keeps it. The engine's payloads are JSON, its keys and headers are text.
#[derive(Serialize, Deserialize)]
pub(super) struct Kept {
    topic: String,
    id: String,
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(String, String)>,
    payload: String,
    not_before: Option<u64>,
}

impl Kept {
    pub(super) fn from_message(message: &Message) -> Self {
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        Self {
            topic: message.topic.as_str().to_owned(),
            id: message.id.as_str().to_owned(),
            key: message.key.as_ref().map(text),
            headers: message.headers.iter().map(|(name, value)| (name.to_owned(), text(value))).collect(),
            payload: text(&message.payload),
            not_before: message.not_before.map(Timestamp::as_millis),
        }
    }

    pub(super) fn message(self, row: &Bytes) -> Result<Message> {
        let topic = TopicName::new(&self.topic).map_err(|error| damaged(row, &error.to_string()))?;
        let mut message = Message::new(topic, self.id, self.payload);
        message.key = self.key.map(Bytes::from);
        self.headers.into_iter().for_each(|(name, value)| message.headers.append(&name, value));
        message.not_before = self.not_before.map(Timestamp::from_millis);
        Ok(message)
    }
}

pub(super) fn encode(messages: &[Message]) -> Bytes {
    wire::encode(&messages.iter().map(Kept::from_message).collect::<Vec<_>>())
}

pub(super) fn decode(key: &Bytes, value: &Bytes) -> Result<Vec<Message>> {
    let kept: Vec<Kept> = wire::decode(value).map_err(|error| damaged(key, &error.to_string()))?;
    kept.into_iter().map(|kept| kept.message(key)).collect()
}

//! What rows of the outbox hold, and under which keys.

use bytes::Bytes;
use partitura_broker::{Error, ErrorKind, Message, Partition, Result, Timestamp, TopicName};
use serde::{Deserialize, Serialize};

use crate::wire;

/// The turn that a row belongs to.
pub(super) struct Origin<'a> {
    pub(super) id: &'a str,
    pub(super) run: &'a str,
    pub(super) turn: u32,
}

impl<'a> Origin<'a> {
    pub(super) fn of(workflow: &str, key: &'a Bytes) -> Option<Self> {
        let rest = key.get(workflow.len() + 1 + size_of::<u32>()..)?;
        let (names, turn) = rest.split_at_checked(rest.len().checked_sub(size_of::<u32>())?)?;
        let (id, run) = std::str::from_utf8(names).ok()?.strip_suffix('\0')?.split_once('\0')?;
        Some(Self { id, run, turn: u32::from_be_bytes(turn.try_into().ok()?) })
    }

    /// The key of the turn's row in the history.
    pub(super) fn history(&self, workflow: &str) -> Bytes {
        let turn = self.turn.to_be_bytes();
        let names = [workflow, self.id, self.run].map(|name| [name.as_bytes(), b"\0"].concat()).concat();
        [&names[..], &turn].concat().into()
    }
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

/// What was set aside of one turn.
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
    pub(super) fn of(message: &Message) -> Self {
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
    wire::encode(&messages.iter().map(Kept::of).collect::<Vec<_>>())
}

pub(super) fn decode(key: &Bytes, value: &Bytes) -> Result<Vec<Message>> {
    let kept: Vec<Kept> = wire::decode(value).map_err(|error| damaged(key, &error.to_string()))?;
    kept.into_iter().map(|kept| kept.message(key)).collect()
}

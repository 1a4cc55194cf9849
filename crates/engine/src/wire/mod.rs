//! The messages on the command topics: JSON, readable by any language.

pub(crate) mod command;
pub(crate) mod end_signal;
pub(crate) mod events;
pub(crate) mod find;
pub(crate) mod ids;
pub(crate) mod indexed;
mod later;
pub(crate) mod names;
pub(crate) mod namespace;
pub(crate) mod outcome;
pub(crate) mod payloads;
pub(crate) mod reply;
pub(crate) mod reply_to;
pub(crate) mod shorten;
pub(crate) mod sizes;
mod start;
pub(crate) mod summary;
pub(crate) mod task;
pub(crate) mod token;
pub(crate) mod waiting;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use self::command::{Command, Completion, Request, Reset, command};
pub(crate) use self::later::Later;
pub(crate) use self::outcome::Outcome;
pub(crate) use self::payloads::Payloads;
pub(crate) use self::reply::{Reply, ReplyBody, TimeQuestion, reply};
pub(crate) use self::reply_to::ReplyTo;
pub use self::start::StartPolicy;
pub(crate) use self::start::{Start, StartSignal, StartUpdate};
pub(crate) use self::task::TaskRequest;

/// Encodes what is serializable without failing: our own types, whose payloads are JSON already. Every message with
/// payloads goes through [`Payloads`].
pub(crate) fn encode<T: Serialize>(value: &T) -> Bytes {
    // Most messages and rows fit, so that the buffer does not grow while it is written.
    let mut buffer = Vec::with_capacity(512);
    // Our wire types hold strings, numbers and raw JSON; none of these can fail to serialize.
    if serde_json::to_writer(&mut buffer, value).is_err() {
        buffer.clear();
    }
    buffer.into()
}

/// Decodes what came from outside. The payloads in it stay as they are encoded, and are not to be used: see
/// [`Payloads`].
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(bytes)
}

#[cfg(test)]
mod tests {
    use super::{Command, TaskRequest, decode};

    #[test]
    fn the_messages_on_the_page_of_the_protocol_are_read() {
        let page = include_str!("../../../../docs/reference/protocol.md");
        let section =
            |name: &str| page.split_once(name).and_then(|(_, rest)| rest.split("\n## ").next()).unwrap_or_default();
        let (commands, tasks) = (section("\n## Commands"), section("\n## Tasks"));
        let lines = [commands, tasks].into_iter().flat_map(str::lines);
        let read = lines.filter(|line| line.starts_with("{\"")).filter(|line| !line.starts_with("{\"workflow\""));
        let count =
            read.map(|line| decode::<Command>(line.as_bytes()).unwrap_or_else(|error| panic!("{line}: {error}")));
        assert_eq!(count.count(), 6);
        let (_, task) = tasks.split_once("```json\n").expect("a task");
        decode::<TaskRequest>(task.split("```").next().unwrap_or_default().as_bytes()).expect("a task");
    }
}

use std::time::Duration;

use crate::{Error, ErrorKind, Message, Result, Timestamp};

/// How a broker keeps the contract's promises: not *whether* (it must), but with which means, limits and durability.
///
/// The few things that a broker may truly lack are in [`Supports`]. Calls that are not declared there answer
/// [`Unsupported`](ErrorKind::Unsupported); those that are declared have their conformance cases run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// The adapter and the server's version, for people: "embedded 0.1.0".
    pub broker: String,
    /// The failures that a [`Receipt`](crate::Receipt) survives.
    pub durability: Durability,
    /// How a message is delayed.
    pub delay: Delay,
    /// How long a delivery may be held unsettled before the broker takes it away; `None`: for as long as the consumer
    /// lives. The layer above parks well before that.
    ///
    /// Conformance: `hold.beyond_timeout`, `hold.slow_handler`.
    pub hold: Option<Duration>,
    /// Sizes and counts, enforced by the adapter before the broker sees a message.
    pub limits: Limits,
    /// The abilities that some brokers lack.
    pub supports: Supports,
}

/// The failures that a receipt survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// Nothing: it is in memory.
    Memory,
    /// The end of the broker's process: it was written, not synced.
    Written,
    /// A power failure: it was synced to stable storage.
    Synced,
    /// The loss of a machine: a quorum has it.
    Replicated,
}

/// How a message is delayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delay {
    /// Whether the broker does it (`true`) or the adapter emulates it above the broker.
    pub native: bool,
    /// The longest delay; beyond it, publishing is refused.
    pub max: Duration,
    /// How late the 99th percentile may be with little load, beyond the time that a message without delay takes.
    ///
    /// Conformance: `delay.accuracy`.
    pub lateness: Duration,
}

/// Sizes and counts of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a payload.
    pub payload: usize,
    /// Bytes of a key.
    pub key: usize,
    /// Number of headers.
    pub headers: usize,
    /// Bytes of all headers, names included.
    pub header_bytes: usize,
}

impl Default for Limits {
    /// The sizes that every broker takes: 1 MiB of payload, 1 KiB of key, 64 headers of 16 KiB in all.
    fn default() -> Self {
        Self { payload: 1 << 20, key: 1 << 10, headers: 64, header_bytes: 16 << 10 }
    }
}

/// The abilities that some brokers lack.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Supports {
    /// [`Broker::transactions`](crate::Broker::transactions).
    pub transactions: bool,
    /// The same message id within this window is stored once.
    ///
    /// Conformance: `dedupe.window`.
    pub deduplication: Option<Duration>,
    /// [`Producer::cancel`](crate::Producer::cancel).
    ///
    /// Conformance: `cap.honest`.
    pub cancellation: bool,
}

impl Capabilities {
    /// Checks a message against the limits: every adapter calls this before it sends.
    ///
    /// # Errors
    /// [`PayloadTooLarge`](ErrorKind::PayloadTooLarge) or [`InvalidArgument`](ErrorKind::InvalidArgument), naming the
    /// topic, the value found and the value allowed.
    pub fn check(&self, message: &Message, now: Timestamp) -> Result<()> {
        let Limits { payload, key, headers, header_bytes } = self.limits;
        let refuse = |kind, text: String| Err(Error::new(kind, "publish", text).of(&message.topic));
        let over = |what: &str, found: usize, limit: usize| format!("{what} of {found} bytes, {limit} are allowed");
        if message.payload.len() > payload {
            let hint = "; keep large data elsewhere and send a reference";
            let text = over("a payload", message.payload.len(), payload) + hint;
            return refuse(ErrorKind::PayloadTooLarge, text);
        }
        if let Some(k) = &message.key
            && k.len() > key
        {
            return refuse(ErrorKind::InvalidArgument, over("a key", k.len(), key));
        }
        if message.headers.len() > headers {
            let text = format!("{} headers, {headers} are allowed", message.headers.len());
            return refuse(ErrorKind::InvalidArgument, text);
        }
        if message.headers.size() > header_bytes {
            return refuse(ErrorKind::InvalidArgument, over("headers", message.headers.size(), header_bytes));
        }
        let id = message.id.as_str();
        if id.is_empty() || id.len() > 255 || !id.bytes().all(|b| b.is_ascii_graphic()) {
            let text = format!("the id {id:?}; ids are 1 to 255 characters of visible ASCII");
            return refuse(ErrorKind::InvalidArgument, text);
        }
        if let Some(due) = message.not_before
            && due.since(now) > self.delay.max
        {
            let text = format!("a delay of {:?}, {:?} are allowed", due.since(now), self.delay.max);
            return refuse(ErrorKind::InvalidArgument, text);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::TopicName;

    fn capabilities() -> Capabilities {
        Capabilities {
            broker: "test".into(),
            durability: Durability::Memory,
            delay: Delay { native: true, max: Duration::from_secs(10), lateness: Duration::from_millis(5) },
            hold: None,
            limits: Limits::default(),
            supports: Supports::default(),
        }
    }

    #[test]
    fn each_limit_is_exact_and_named() {
        let now = Timestamp::from_millis(1_000);
        let message = |payload: usize| Message::new(TopicName::new("t").unwrap(), "id", Bytes::from(vec![0; payload]));
        let check = |message: Message| capabilities().check(&message, now);
        let many = |n: usize| (0..n).fold(message(0), |m, i| m.header(&format!("h{i}"), ""));

        assert!(check(message(1 << 20)).is_ok());
        assert_eq!(check(message((1 << 20) + 1)).unwrap_err().kind(), ErrorKind::PayloadTooLarge);
        assert!(check(message(0).key(vec![0; 1 << 10])).is_ok());
        assert!(check(many(64)).is_ok());
        for (message, text) in [
            (message(0).key(vec![0; (1 << 10) + 1]), "a key of 1025 bytes, 1024 are allowed"),
            (many(65), "65 headers"),
            (message(0).header("h", vec![0; 16 << 10]), "headers of 16385 bytes"),
            (message(0).not_before(now + Duration::from_millis(10_001)), "a delay of"),
            (Message::new(TopicName::new("t").unwrap(), "a b", ""), "the id"),
        ] {
            let error = check(message).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(error.to_string().contains(text), "{error}");
        }
    }
}

//! Decoders of foreign bytes, to be tried with bytes that they do not expect: see `crates/workshop/fuzz`.

use bytes::Bytes;

use crate::storage::history;
use crate::wire::names::InstanceKey;
use crate::wire::task::TaskRequest;
use crate::wire::{Command, Payloads, Reply};
use crate::{Cursor, Destination, InstanceName, TaskToken};

/// A command on a workflow's topic.
pub fn command(bytes: &[u8]) {
    if let Ok(command) = Payloads::default().decode::<Command>(bytes) {
        assert!(!Payloads::default().encode(&command).is_empty(), "what was read can be written");
    }
}

/// A task on a service's topic.
pub fn task(bytes: &[u8]) {
    if let Ok(task) = Payloads::default().decode::<TaskRequest>(bytes) {
        let _ = (task.idempotency_key(), task.token().to_string(), task.message_id());
    }
}

/// An answer in an inbox.
pub fn reply(bytes: &[u8]) {
    let _ = Payloads::default().decode::<Reply>(bytes);
}

/// A turn in the store.
pub fn history_row(bytes: &[u8]) {
    let key = InstanceKey::new("Checkout", "order-42");
    for number in [0, 1] {
        if let Ok(turn) = history::StoredTurn::read(&Payloads::default(), &key, number, &Bytes::copy_from_slice(bytes))
        {
            let _ = (turn.len(&key), turn.events(&Payloads::default(), &key, |_| true));
        }
    }
}

/// A summary in the store.
pub fn summary(bytes: &[u8]) {
    let key = InstanceKey::new("Checkout", "order-42");
    let _ = history::decode_summary(&Payloads::default(), &Bytes::copy_from_slice(bytes), &key);
}

/// Texts that clients and operators hand in: tokens, places in lists, names.
pub fn token(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(token) = text.parse::<TaskToken>() {
        assert_eq!(token.to_string().parse().ok(), Some(token), "a token is what it is written as");
    }
    let _ = (text.parse::<Cursor>().is_ok(), text.parse::<Destination>().is_ok(), text.parse::<InstanceName>().is_ok());
}

#[cfg(test)]
mod tests {
    use partitura_fuzz::smoke;

    #[test]
    fn no_message_row_or_token_makes_a_decoder_panic() {
        smoke("command", 20_000, super::command);
        smoke("task", 10_000, super::task);
        smoke("reply", 10_000, super::reply);
        smoke("history-row", 20_000, super::history_row);
        smoke("summary", 10_000, super::summary);
        smoke("token", 20_000, super::token);
    }
}

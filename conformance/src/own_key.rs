//! Messages to which a mutant of the lanes gives another key. Their own key travels with them, for the history.

use bytes::Bytes;
use partitura_broker::{Delivery, Message};

/// The header of a message's own key.
const OWN_KEY: &str = "mutant-key";

/// Gives a delivery another key for the lanes.
pub(crate) fn replace_key(delivery: &mut Delivery, key: impl Into<Bytes>) {
    if let Some(own) = delivery.message.key.replace(key.into()) {
        delivery.message.headers.insert(OWN_KEY, own);
    }
}

/// Gives a message that lanes hand over its own key back.
pub(crate) fn restore_key(message: &mut Message) {
    if let Some(key) = message.headers.get(OWN_KEY).cloned() {
        message.headers.remove(OWN_KEY);
        message.key = Some(key);
    }
}

//! The names of this adapter's objects on the server.
//!
//! ```text
//! schema    partitura_template     holds the tables; notices are sent to the channel of the same name
//! inbox     ~SECRET                the address of a process's replies: the topic of a line
//! notices   ring ADDRESS           an address, a topic or an inbox, has messages
//!           beat SUBSCRIPTION TOPIC    a heartbeat of a member
//! ```
//!
//! Names of topics and subscriptions are stored as they are.

use partitura_broker::{Error, ErrorKind, InboxAddress, Result, SubscriptionName, TopicName};

/// No name of a topic begins with this prefix.
const INBOX: &str = "~";

/// The address of a new inbox, which nobody can guess.
pub(crate) fn new_inbox() -> String {
    format!("{INBOX}{}", InboxAddress::secret())
}

/// Whether an address is that of an inbox. An address comes from a request, and may be any text.
pub(crate) fn is_inbox(address: &str) -> bool {
    address.strip_prefix(INBOX).is_some_and(InboxAddress::is_secret)
}

/// The key of the notices that an address, a topic or an inbox, has messages.
pub(crate) fn message_notices(address: &str) -> String {
    format!("ring {address}")
}

/// The key of the notices between the members of a subscription.
pub(crate) fn heartbeats(subscription: &SubscriptionName, topics: &[TopicName]) -> String {
    let first = topics.iter().min().map_or("", TopicName::as_str);
    format!("beat {subscription} {first}")
}

/// Checks the name of a schema. It becomes part of statements, so it must need no quotes.
pub(crate) fn check_schema(name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if name.starts_with(|c: char| c.is_ascii_lowercase()) && name.len() <= 63 && name.chars().all(plain) {
        return Ok(());
    }
    let message = "a schema's name is a lower-case letter and up to 62 more, digits and underscores";
    Err(Error::new(ErrorKind::InvalidArgument, "connect", message).of(format_args!("{name:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_with_a_secret_is_an_inbox() {
        assert!(is_inbox(&new_inbox()));
        for other in ["orders", "~", "~a|b\0", &"~".repeat(10_000)] {
            assert!(!is_inbox(other), "{other}");
        }
    }
}

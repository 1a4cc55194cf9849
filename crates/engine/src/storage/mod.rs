//! The state of instances in a store or in the broker, and the messages that are committed with it.

pub(crate) mod beside;
pub(crate) mod children;
pub(crate) mod crashes;
pub(crate) mod expiries;
pub(crate) mod finding;
pub(crate) mod heartbeats;
pub(crate) mod history;
pub(crate) mod history_part;
pub(crate) mod index;
pub(crate) mod index_keys;
pub(crate) mod outbox;
pub(crate) mod pauses;
pub(crate) mod search;
pub(crate) mod served;
pub(crate) mod store;
pub(crate) mod turn_store;

//! What clients, workflows and tasks share of the broker: which topics exist, and replies.

pub(crate) mod directory;
pub(crate) mod mailbox;

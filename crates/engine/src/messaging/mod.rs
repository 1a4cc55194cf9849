//! The broker as clients, workflows and tasks share it: which topics exist, and replies.

pub(crate) mod directory;
pub(crate) mod mailbox;

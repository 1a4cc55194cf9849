//! The claims of a member: the messages that the server's consumers deliver to it.

mod prefetch;
mod pull;
mod push;
mod replay;

pub(crate) use prefetch::Ahead;
pub(crate) use pull::PullClaim;
pub(crate) use push::{PushClaim, Target};

//! Partitura on NATS JetStream.

mod acks;
mod confirms;
mod consumers;
mod delay;
mod error;
mod group;
mod inbox;
mod link;
mod names;
mod nats;
mod options;
mod owned;
mod producer;
mod replay;
mod shared;
mod topics;
mod topology;
mod wire;

pub use nats::Nats;
pub use options::{Auth, Options};

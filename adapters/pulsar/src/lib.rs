//! Partitura on Apache Pulsar, 3.0 to 4.x.
mod admin;
mod claim;
mod consumer;
mod core;
mod delay;
mod error;
mod identity;
mod inbox;
mod job;
mod lanes;
mod listener;
mod mailbox;
mod names;
mod options;
mod producer;
mod pulsar;
mod session;
mod settlement;
mod tls;
mod topology;
mod vendor;
mod wire;

pub use self::options::{Batching, Credentials, OAuth2, Options};
pub use self::pulsar::Pulsar;

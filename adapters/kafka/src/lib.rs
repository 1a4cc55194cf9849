//! Partitura on Apache Kafka.

mod client;
mod consumer;
mod core;
mod delay;
mod error;
mod inbox;
mod kafka;
mod listener;
mod names;
mod options;
mod outgoing;
mod position;
mod producer;
mod shared;
mod subscription;
mod tail;
mod topology;
mod wire;
mod with_timers;

pub use kafka::Kafka;
pub use options::Options;

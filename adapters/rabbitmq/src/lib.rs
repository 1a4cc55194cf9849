//! Partitura on RabbitMQ, 3.10 to 4.x.
//!
//! ```no_run
//! # async fn example() -> partitura_broker::Result<()> {
//! use partitura_rabbitmq::{Options, Rabbitmq};
//!
//! let broker = Rabbitmq::connect("amqp://guest:guest@localhost", Options::default()).await?;
//! # Ok(()) }
//! ```
//!
//! # How each promise is kept
//!
//! * **Order, and one owner.** Each partition of a subscription is a quorum queue, bound by its number to the direct exchange
//!   of the topic. Whoever owns it holds a lock, an exclusive queue, which exists once and goes with the connection. A
//!   single active consumer keeps the successor waiting until the broker has put back what its predecessor held.
//! * **Nothing out of order comes back.** Nothing is ever negatively acknowledged, and no consumer cancelled that holds
//!   something: the channel is closed, upon which the broker puts everything back in order.
//! * **Confirms** are matched per message, behind a window; what the broker returns because no queue is bound is told.
//! * **Delay.** Waiting rooms, from which whoever consumes a topic forwards what falls due.
//! * **Membership** is told through the topic's exchange. Who should own what is worked out by
//!   [`Member`](partitura_adapter_kit::Member).
//!
//! ```text
//! producer ─► publisher (task) ─► exchange of the topic ─┬─► queue per subscription and partition ─► claim ─► member
//!                    ▲        └─► rooms ─► due queue ─┐  └─► queue of who listens
//!                    └──────── forwarder ◄────────────┘
//! ```

mod batch;
mod claim;
mod core;
mod delay;
mod due;
mod error;
mod faults;
mod forwarder;
mod hold;
mod inbox;
mod link;
mod names;
mod options;
mod producer;
mod publisher;
mod rabbitmq;
mod salvage;
mod settled;
mod subscriber;
mod topics;
mod topology;
mod version;
mod wire;

pub use options::Options;
pub use rabbitmq::Rabbitmq;

/// This broker's name in telemetry.
const SYSTEM: &str = "rabbitmq";

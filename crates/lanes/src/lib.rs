//! Messaging above the contract of [`partitura_broker`], written once for all brokers: lanes for keys, retry, parking,
//! dead letters, typed topics.
//!
//! Every broker gives us partitions with one owner each, and a replay of unsettled messages. This crate adds the rules
//! that a service wants: the messages of a key are handled one after another, in order, each until it is done; a slow
//! or failing key never holds up another; and nothing is settled before it is done.
//!
//! ```text
//! broker ─► partition ─► lane per key ─► handler ──► done: settled
//!                            ▲    │          │
//!                            └────┘ retry    ├─────► dead: published as a dead letter, confirmed, settled
//!                          (its key waits)   │
//!                                            └─────► held too long: parked, resumes from there first, in order
//! ```
//!
//! There are two levels:
//!
//! * [`Lanes`] runs a [`Handler`] over one [`Consumer`](partitura_broker::Consumer), on bytes. The workflow engine is
//!   built on it.
//! * [`Messaging`] gives typed queues and streams, for messaging without workflows:
//!
//! ```no_run
//! # async fn bill(broker: impl partitura_broker::Broker + 'static) -> Result<(), Box<dyn std::error::Error>> {
//! use partitura_lanes::{Messaging, Retry};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Order { customer: String, cents: u64 }
//!
//! let messaging = Messaging::new(broker).await?;
//! let orders = messaging.queue::<Order>("orders").partitions(16).subscription("billing").declare().await?;
//! orders.publish(&Order { customer: "ada".into(), cents: 1_999 }).key("ada").await?;
//!
//! let (done, billed) = tokio::sync::oneshot::channel();
//! let done = std::sync::Mutex::new(Some(done));
//! orders
//!     .subscribe("billing")
//!     .retry(Retry::exponential().max_attempts(5)) // its key waits, the others flow; then the dead letters
//!     .process(move |order: Order| {
//!         let done = done.lock().ok().and_then(|mut done| done.take());
//!         async move { done.map_or(Ok(()), |done| done.send(order.cents)) }
//!     })
//!     .run_until(async { assert_eq!(billed.await, Ok(1_999)) })
//!     .await?;
//! assert!(orders.dead_letters("billing")?.list(100).await?.is_empty());
//! # Ok(()) }
//! ```
//!
//! # Guarantees
//!
//! *At least once*: a message is settled after its handler was done with it, or after the broker confirmed its dead
//! letter. *In order*: per subscription and key, at most one message is with a handler, and first runs follow the order
//! of the broker. *Bounded*: memory holds as many messages as the consumer's [credit](partitura_broker::Credit)
//! allows, and a few words for each parked key.

mod batch;
mod core;
mod dead_letters;
mod driver;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod handler;
pub mod headers;
mod lanes;
mod letter;
mod meter;
mod options;
mod subscription_topics;
mod trials;
mod typed;

pub use batch::Batch;
pub use dead_letters::{DeadLetters, Redriven};
pub use handler::{Handler, Outcome};
pub use lanes::Lanes;
pub use letter::{DeadLetter, GivenUp};
pub use options::LaneOptions;
pub use partitura_retry::Retry;
pub use subscription_topics::SubscriptionTopics;
pub use trials::Trials;
pub use typed::{
    Envelope, IntoOutcome, MessageFn, Messaging, Processing, Publish, Subscriber, Topic, TopicBuilder, TypedHandler,
};

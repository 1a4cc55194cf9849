//! The common part of broker adapters, those of Partitura and those of other authors.
//!
//! It has no vendor and no network. Each item does one thing that every adapter needs and that is easy to get wrong:
//!
//! * [`Member`]: a complete consumer, made of the exclusive partitions of a broker ([`Claims`], [`Claim`]);
//! * [`TokenSlab`]: from an [`AckToken`](partitura_broker::AckToken) back to the value by which the broker settles,
//!   once;
//! * [`AckFloor`]: settlements in any order over a log that commits one position for all before it;
//! * [`rendezvous`] and [`rebalance`]: the owners of partitions;
//! * [`Backoff`]: the wait before trying again;
//! * [`Pace`]: one batch at a time to each destination, and a pause after a refusal;
//! * [`Batch`]: the results of one call of `publish`, with the order of each key;
//! * [`PublishQueue`], [`OpenCalls`], [`Partitioner`], [`Publishers`]: a task that publishes the calls of a producer;
//! * [`TopicCache`], [`describe_topic`], [`parse_topic`], [`topic_differs`]: topics that a broker describes by a text;
//! * [`MeanSize`]: how many messages fit into a bound in bytes;
//! * [`Fault`]: known faults of some versions of a server.

mod ack_floor;
mod assignment;
mod backoff;
mod batch;
mod claim;
mod faults;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod mean_size;
mod member;
mod pace;
mod publishing;
mod slab;
mod topics;

pub use ack_floor::{AckFloor, Index};
pub use assignment::{MemberId, rebalance, rendezvous};
pub use backoff::Backoff;
pub use batch::Batch;
pub use claim::{Claim, Claimed, Claims};
pub use faults::{Fault, Version, warn_of_faults};
pub use mean_size::MeanSize;
pub use member::Member;
pub use pace::Pace;
pub use publishing::{OpenCalls, Partitioner, PublishCall, PublishQueue, PublisherGuard, Publishers};
pub use slab::TokenSlab;
pub use topics::{TopicCache, describe_topic, parse_topic, topic_differs};

/// The code of the guides is compiled.
#[cfg(doctest)]
mod guide {
    #[doc = include_str!("../../../docs/guides/write-an-adapter.md")]
    struct WriteAnAdapter;
}

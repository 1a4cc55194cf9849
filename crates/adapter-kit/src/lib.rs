//! What Partitura's broker adapters share, and a stranger's adapter too.
//!
//! Pure data structures: no vendor, no network, no clock. Each does one thing that every adapter needs and that is easy
//! to get wrong:
//!
//! * [`TokenSlab`]: from an [`AckToken`](partitura_broker::AckToken) back to what the broker has to be told, once;
//! * [`Floor`]: settlements in any order over a log that can only commit "everything up to here";
//! * [`rendezvous`] and [`rebalance`]: who owns which partition;
//! * [`Backoff`]: how long to wait before trying again.

mod assignment;
mod backoff;
mod floor;
mod slab;

pub use assignment::{Member, rebalance, rendezvous};
pub use backoff::Backoff;
pub use floor::{Floor, Index};
pub use slab::TokenSlab;

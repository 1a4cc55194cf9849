//! What Partitura's broker adapters share, and a stranger's adapter too.
//!
//! No vendor, no network. Each does one thing that every adapter needs and that is easy to get wrong:
//!
//! * [`Member`]: a whole consumer, made of what a broker with exclusive partitions offers ([`Claims`], [`Claim`]);
//! * [`TokenSlab`]: from an [`AckToken`](partitura_broker::AckToken) back to what the broker has to be told, once;
//! * [`Floor`]: settlements in any order over a log that can only commit "everything up to here";
//! * [`rendezvous`] and [`rebalance`]: who owns which partition;
//! * [`Backoff`]: how long to wait before trying again.

mod assignment;
mod backoff;
mod claim;
mod floor;
mod member;
mod slab;

pub use assignment::{MemberId, rebalance, rendezvous};
pub use backoff::Backoff;
pub use claim::{Claim, Claimed, Claims};
pub use floor::{Floor, Index};
pub use member::Member;
pub use slab::TokenSlab;

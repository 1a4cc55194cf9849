//! The state in memory: queues, owners, unsettled deliveries. It is pure: no I/O, no lock, no waiting; time is an
//! input.
//!
//! A durable message is on the disk before it is here. A settlement is here before it is on the disk.

mod batch;
mod broadcast;
mod broker_state;
mod changes;
mod deliver;
mod group;
mod member;
mod ownership;
mod queue;
mod settle;
mod withdraw;

pub(crate) use broadcast::Broadcast;
pub(crate) use broker_state::{Mailbox, State};
pub(crate) use changes::{Append, Changes, Withdrawn};
pub(crate) use deliver::{Content, Taken, Wake};
pub(crate) use queue::Location;

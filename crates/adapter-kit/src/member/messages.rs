//! The messages between the tasks of a member. Each channel has one type.

use std::time::Duration;

use partitura_broker::{Error, Partition, Result};
use tokio::sync::{mpsc, oneshot};

use crate::Claimed;

/// The reports of leases and of the coordinator to the consumer, in order.
#[derive(Debug)]
pub(super) enum Report<H> {
    Assigned { partition: Partition, epoch: u32, readers: Vec<mpsc::UnboundedSender<ReaderTask<H>>> },
    Deliveries { topic: usize, partition: Partition, epoch: u32, messages: Vec<Claimed<H>> },
    Revoking { partition: Partition, within: Duration },
    Lost { partition: Partition, epoch: u32 },
    Failed(Error),
}

/// The requests of the consumer to its coordinator.
#[derive(Debug)]
pub(super) enum Request {
    Release(Partition, oneshot::Sender<Result<()>>),
    Close(oneshot::Sender<Result<()>>),
}

/// The orders of the coordinator to a lease.
#[derive(Debug)]
pub(super) enum Order {
    /// Another member should have the partition.
    Revoke,
    /// Claim again, since a claim of now would be of more partitions.
    Renew,
    /// Release the partition: its deliveries are settled, or given up.
    Release(oneshot::Sender<Result<()>>),
}

/// The requests of the consumer to a reader.
#[derive(Debug)]
pub(super) enum ReaderTask<H> {
    Settle(Vec<H>),
    Flush(oneshot::Sender<Result<()>>),
}

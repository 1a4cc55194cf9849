use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use partitura_broker::TopicName;
use tokio::sync::{Notify, mpsc};

use super::messages::Report;
use super::pool::Pool;
use crate::{Claim, Claims};

/// The handle of a delivery of these claims.
pub(super) type Handle<C> = <<C as Claims>::Claim as Claim>::Handle;

/// The state that the coordinator and all leases of a member share.
#[derive(Debug)]
pub(super) struct MemberState<C: Claims> {
    pub(super) claims: Arc<C>,
    /// The topics in the order of their names. Members claim several in this order, so that no two wait for each other.
    pub(super) topics: Vec<TopicState>,
    /// The number of partitions of the subscription. Only the coordinator changes it.
    pub(super) partitions: AtomicU32,
    /// The number of unsettled messages that a claim may hold.
    pub(super) ahead: usize,
    pub(super) revoke_within: Duration,
    /// The last epoch that was given out.
    pub(super) epochs: AtomicU32,
    pub(super) reports: mpsc::UnboundedSender<Report<Handle<C>>>,
    /// A member gave a partition up.
    pub(super) released: Notify,
    /// The name of the broker in telemetry.
    pub(super) system: &'static str,
}

#[derive(Debug)]
pub(super) struct TopicState {
    pub(super) name: TopicName,
    /// The rest of its credit.
    pub(super) pool: Arc<Pool>,
}

impl<C: Claims> MemberState<C> {
    /// Reports to the consumer. Without a consumer this member will soon end.
    pub(super) fn report(&self, report: Report<Handle<C>>) {
        let _ = self.reports.send(report);
    }

    pub(super) fn next_epoch(&self) -> u32 {
        self.epochs.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }
}

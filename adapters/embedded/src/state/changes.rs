use std::sync::Arc;

use partitura_broker::{AckToken, Message};

use super::broadcast::Broadcast;
use super::group::Delayed;
use super::queue::Place;
use crate::storage::Row;
use crate::topics::Catalog;

/// The changes that a batch makes when it is committed.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) removed: Vec<u64>,
    pub(crate) catalog: Option<Arc<Catalog>>,
    pub(crate) appends: Vec<Append>,
    pub(crate) broadcasts: Vec<Broadcast>,
    pub(crate) claims: Vec<Claim>,
    pub(crate) withdrawn: Vec<Withdrawn>,
}

/// A message that was just stored, or that is not stored.
#[derive(Debug)]
pub(crate) struct Append {
    pub(crate) row: Row,
    pub(crate) message: Message,
}

/// A delivery that a commit is about to settle. It is neither delivered again nor settled otherwise meanwhile.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim {
    pub(super) token: AckToken,
    /// The sequence to remove from the storage; a broadcast has none.
    pub(crate) seq: Option<u64>,
}

/// A delayed message that a batch is about to cancel. It is not delivered meanwhile.
#[derive(Debug)]
pub(crate) enum Withdrawn {
    /// It waited for a subscription.
    Waiting { group: u32, place: Place, delayed: DelayedMessage },
    /// It waited for a listener.
    Broadcast { listener: u32, broadcast: Broadcast },
    /// The same batch has published it.
    Appended(u64),
}

/// The state's record of it.
#[derive(Debug)]
pub(crate) struct DelayedMessage(pub(super) Delayed);

impl Withdrawn {
    /// Its place in the storage.
    pub(crate) fn seq(&self) -> Option<u64> {
        match self {
            Self::Waiting { place, .. } => Some(place.seq),
            Self::Broadcast { .. } => None,
            Self::Appended(seq) => Some(*seq),
        }
    }
}

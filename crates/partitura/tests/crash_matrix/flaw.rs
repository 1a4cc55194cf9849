//! Promises broken on purpose: a matrix that does not find these finds nothing.

use partitura_broker::{Put, Unit};
use serde::{Deserialize, Serialize};

/// The flaw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Flaw {
    /// The input is settled before what it led to is stored.
    SettlesFirst,
    /// Messages are published before the turn that sends them is stored.
    PublishesFirst,
    /// The messages of a turn are not stored with it.
    ForgetsTheOutbox,
}

impl Flaw {
    /// The commits that are made of one.
    pub(crate) fn split(self, units: Vec<Unit>) -> Vec<Vec<Unit>> {
        let first = |unit: &mut Unit| match self {
            Self::SettlesFirst => Unit { settle: std::mem::take(&mut unit.settle), ..Unit::default() },
            Self::PublishesFirst => Unit { publish: std::mem::take(&mut unit.publish), ..Unit::default() },
            Self::ForgetsTheOutbox => Unit::default(),
        };
        let mut rest = units;
        vec![rest.iter_mut().map(first).collect(), rest]
    }

    /// Leaves of a write only the part that this flaw keeps.
    pub(crate) fn forget(self, groups: &mut [Vec<Put>]) {
        if self == Self::ForgetsTheOutbox {
            groups.iter_mut().for_each(|group| group.retain(|put| put.space != "outbox" || put.value.is_none()));
        }
    }
}

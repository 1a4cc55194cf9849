use std::fmt;
use std::ops::Deref;

use partitura_broker::Delivery;

/// The messages for one call of a handler: up to [`LaneOptions::batch`](crate::LaneOptions::batch) messages of one key,
/// oldest first.
///
/// Never empty. A single message, the usual case, costs no allocation.
#[derive(Clone)]
pub struct Batch {
    deliveries: Deliveries,
    attempt: u32,
}

#[derive(Clone)]
enum Deliveries {
    One([Delivery; 1]),
    Many(Vec<Delivery>),
}

impl Batch {
    pub(crate) fn one(delivery: Delivery, attempt: u32) -> Self {
        Self { deliveries: Deliveries::One([delivery]), attempt }
    }

    pub(crate) fn many(deliveries: Vec<Delivery>, attempt: u32) -> Self {
        Self { deliveries: Deliveries::Many(deliveries), attempt }
    }

    /// The messages, oldest first.
    pub fn deliveries(&self) -> &[Delivery] {
        match &self.deliveries {
            Deliveries::One(one) => one,
            Deliveries::Many(many) => many,
        }
    }

    /// The messages, oldest first, to own. Of a single one there is no copy.
    pub fn into_deliveries(self) -> impl ExactSizeIterator<Item = Delivery> {
        match self.deliveries {
            Deliveries::One([one]) => OneOrMany::One(Some(one)),
            Deliveries::Many(many) => OneOrMany::Many(many.into_iter()),
        }
    }

    /// Which run of this message this is, from 1. Counted in this process, and over parking. After a crash it starts
    /// again at 1. Where [crashes](crate::LaneOptions::crashes) are counted, all but the first with this message count.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }
}

impl Deref for Batch {
    type Target = [Delivery];

    fn deref(&self) -> &[Delivery] {
        self.deliveries()
    }
}

impl fmt::Debug for Batch {
    /// Without payloads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = self.iter().map(|delivery| &delivery.message.id).collect::<Vec<_>>();
        f.debug_struct("Batch").field("ids", &ids).field("attempt", &self.attempt).finish()
    }
}

enum OneOrMany {
    One(Option<Delivery>),
    Many(std::vec::IntoIter<Delivery>),
}

impl Iterator for OneOrMany {
    type Item = Delivery;

    fn next(&mut self) -> Option<Delivery> {
        match self {
            Self::One(one) => one.take(),
            Self::Many(many) => many.next(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = match self {
            Self::One(one) => usize::from(one.is_some()),
            Self::Many(many) => many.len(),
        };
        (left, Some(left))
    }
}

impl ExactSizeIterator for OneOrMany {}

impl<'a> IntoIterator for &'a Batch {
    type Item = &'a Delivery;
    type IntoIter = std::slice::Iter<'a, Delivery>;

    fn into_iter(self) -> Self::IntoIter {
        self.deliveries().iter()
    }
}

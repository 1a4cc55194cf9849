use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The order of a customer: a line of the input, and the input of the workflow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Order {
    pub id: OrderId,
    pub item: String,
    pub units: u32,
    pub total: Cents,
    /// Cards ending in 0002 are declined.
    pub card: String,
    pub address: String,
    /// How long the warehouse has. An hour, unless stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pack_within_ms: Option<u64>,
}

impl Order {
    pub fn time_to_pack(&self) -> Duration {
        self.pack_within_ms.map_or(partitura::hours(1), partitura::millis)
    }

    /// The reason for which this is no order.
    pub fn problem(&self) -> Option<&'static str> {
        let id = &self.id.0;
        let problems = [
            (id.is_empty() || id.len() > 100, "`id` must have 1 to 100 bytes"),
            (id.contains(char::is_control), "`id` must be printable"),
            (self.item.is_empty(), "`item` is empty"),
            (self.units == 0, "`units` is zero"),
            (self.total == Cents(0), "`total` is zero"),
            (self.card.is_empty(), "`card` is empty"),
            (self.address.is_empty(), "`address` is empty"),
        ];
        problems.into_iter().find(|(there, _)| *there).map(|(_, problem)| problem)
    }
}

/// Names an order, and the workflows that carry it out.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OrderId(pub String);

impl fmt::Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An amount of money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cents(pub u64);

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Unavailable, gets_through, persistently};
use crate::ledger::Ledger;
use crate::orders::OrderId;

/// The way to the customer.
#[partitura::service]
pub trait Shipping {
    /// Has a parcel fetched and delivered.
    #[task(retry = persistently(), retry_if = ShippingError::is_passing)]
    async fn book(&self, order: OrderId, address: String) -> Result<Parcel, ShippingError>;
}

/// A parcel on its way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Parcel {
    number: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub enum ShippingError {
    #[error("nobody delivers to {address}")]
    NobodyGoesThere { address: String },
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl ShippingError {
    fn is_passing(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

/// A line of the couriers' ledger.
#[derive(Debug, Serialize, Deserialize)]
pub struct Booking {
    pub order: OrderId,
    pub address: String,
}

/// The couriers of the town. They go everywhere but to Atlantis.
#[derive(Debug)]
pub struct Couriers(Ledger);

impl Couriers {
    pub const LEDGER: &str = "shipments.jsonl";

    pub fn open(ledgers: &Path) -> io::Result<Self> {
        Ledger::open(&ledgers.join(Self::LEDGER)).map(Self)
    }
}

impl Shipping for Couriers {
    async fn book(&self, order: OrderId, address: String) -> Result<Parcel, ShippingError> {
        gets_through("booking", &order)?;
        if address.ends_with("Atlantis") {
            return Err(ShippingError::NobodyGoesThere { address });
        }
        let number = self.0.once(&Booking { order: order.clone(), address }).map_err(Unavailable::from)?;
        gets_through("answer to the booking", &order)?;
        Ok(Parcel { number })
    }
}

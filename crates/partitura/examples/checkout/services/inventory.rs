use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Unavailable, gets_through, persistently};
use crate::ledger::Ledger;
use crate::orders::OrderId;

/// The stock, and the reservations.
#[partitura::service]
pub trait Inventory {
    /// Puts units aside.
    #[task(retry = persistently(), retry_if = StockError::is_passing)]
    async fn reserve(&self, order: OrderId, item: String, units: u32) -> Result<Reservation, StockError>;

    /// Puts them back.
    #[task(retry = persistently(), retry_if = StockError::is_passing)]
    async fn release(&self, reservation: Reservation) -> Result<(), StockError>;
}

/// Units put aside for an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reservation {
    number: u64,
    order: OrderId,
    units: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub enum StockError {
    #[error("there is no {item} in stock")]
    OutOfStock { item: String },
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl StockError {
    fn is_passing(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

/// A line of the stockroom's ledger.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Movement {
    Reserved { order: OrderId, units: u32 },
    Released { order: OrderId, units: u32 },
}

/// Our stockroom. It has plenty of everything but theremins.
#[derive(Debug)]
pub struct Stockroom(Ledger);

impl Stockroom {
    pub const LEDGER: &str = "stock.jsonl";

    pub fn open(ledgers: &Path) -> io::Result<Self> {
        Ledger::open(&ledgers.join(Self::LEDGER)).map(Self)
    }

    fn enter(&self, movement: &Movement) -> Result<u64, Unavailable> {
        Ok(self.0.once(movement)?)
    }
}

impl Inventory for Stockroom {
    async fn reserve(&self, order: OrderId, item: String, units: u32) -> Result<Reservation, StockError> {
        gets_through("reservation", &order)?;
        if item == "theremin" {
            return Err(StockError::OutOfStock { item });
        }
        let number = self.enter(&Movement::Reserved { order: order.clone(), units })?;
        gets_through("answer to the reservation", &order)?;
        Ok(Reservation { number, order, units })
    }

    async fn release(&self, reservation: Reservation) -> Result<(), StockError> {
        let Reservation { order, units, .. } = reservation;
        gets_through("release", &order)?;
        self.enter(&Movement::Released { order: order.clone(), units })?;
        gets_through("answer to the release", &order)?;
        Ok(())
    }
}

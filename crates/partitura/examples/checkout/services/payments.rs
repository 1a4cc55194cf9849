use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Unavailable, gets_through, persistently};
use crate::ledger::Ledger;
use crate::orders::{Cents, OrderId};

/// The customers' money.
#[partitura::service]
pub trait Payments {
    /// Takes it.
    #[task(retry = persistently(), retry_if = PaymentError::is_passing)]
    async fn charge(&self, order: OrderId, card: String, amount: Cents) -> Result<Receipt, PaymentError>;

    /// Gives it back.
    #[task(retry = persistently(), retry_if = PaymentError::is_passing)]
    async fn refund(&self, receipt: Receipt) -> Result<(), PaymentError>;
}

/// Money that was taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    number: u64,
    order: OrderId,
    amount: Cents,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub enum PaymentError {
    #[error("the card was declined")]
    Declined,
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl PaymentError {
    fn is_passing(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

/// A line of the acquirer's ledger.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Posting {
    Charged { order: OrderId, amount: Cents },
    Refunded { order: OrderId, amount: Cents },
}

/// The bank that takes cards for us.
#[derive(Debug)]
pub struct Acquirer(Ledger);

impl Acquirer {
    pub const LEDGER: &str = "payments.jsonl";

    pub fn open(ledgers: &Path) -> io::Result<Self> {
        Ledger::open(&ledgers.join(Self::LEDGER)).map(Self)
    }

    fn enter(&self, posting: &Posting) -> Result<u64, Unavailable> {
        Ok(self.0.once(posting)?)
    }
}

impl Payments for Acquirer {
    async fn charge(&self, order: OrderId, card: String, amount: Cents) -> Result<Receipt, PaymentError> {
        gets_through("charge", &order)?;
        if card.ends_with("0002") {
            return Err(PaymentError::Declined);
        }
        let number = self.enter(&Posting::Charged { order: order.clone(), amount })?;
        gets_through("answer to the charge", &order)?;
        Ok(Receipt { number, order, amount })
    }

    async fn refund(&self, receipt: Receipt) -> Result<(), PaymentError> {
        let Receipt { order, amount, .. } = receipt;
        gets_through("refund", &order)?;
        self.enter(&Posting::Refunded { order: order.clone(), amount })?;
        gets_through("answer to the refund", &order)?;
        Ok(())
    }
}

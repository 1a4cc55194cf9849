use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::shipping::Parcel;
use super::{Unavailable, gets_through, persistently};
use crate::ledger::Ledger;
use crate::orders::OrderId;

/// The letters to the customers.
#[partitura::service]
pub trait Notifications {
    /// Sends the customer a letter.
    #[task(retry = persistently(), retry_errors)]
    async fn send(&self, order: OrderId, letter: Letter) -> Result<(), NotificationError>;
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Letter {
    OnItsWay(Parcel),
    Apology,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub enum NotificationError {
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// A line of the mailer's ledger.
#[derive(Debug, Serialize, Deserialize)]
pub struct Sent {
    pub order: OrderId,
    pub letter: Letter,
}

/// Sends letters to customers, each once.
#[derive(Debug)]
pub struct Mailer(Ledger);

impl Mailer {
    pub const LEDGER: &str = "letters.jsonl";

    pub fn open(ledgers: &Path) -> io::Result<Self> {
        Ledger::open(&ledgers.join(Self::LEDGER)).map(Self)
    }
}

impl Notifications for Mailer {
    async fn send(&self, order: OrderId, letter: Letter) -> Result<(), NotificationError> {
        gets_through("letter", &order)?;
        self.0.once(&Sent { order: order.clone(), letter }).map_err(Unavailable::from)?;
        gets_through("answer to the letter", &order)?;
        Ok(())
    }
}

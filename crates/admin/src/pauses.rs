//! Workflows, services and methods that are paused.

use partitura_engine::{Pausable, PauseReceipt, Paused};

use crate::admin::{Admin, within};
use crate::error::AdminError;

impl Admin {
    /// The pauses now.
    ///
    /// # Errors
    /// [`Timeout`](AdminError::Timeout); those of the store.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn pauses(&self) -> Result<Vec<Paused>, AdminError> {
        within("read what is paused", async { self.partitura.client().pauses().await }).await
    }

    /// Pauses a workflow, a service or a method, says whether its name is known, and leaves a record as
    /// [`act`](Self::act) does.
    ///
    /// # Errors
    /// [`Refused`](AdminError::Refused): there is no reason; those of the store.
    ///
    /// # Cancel safety
    /// Dropped, it may or may not be paused, and there may be no record.
    pub async fn pause(&self, who: &str, what: &Pausable, reason: &str) -> Result<PauseReceipt, AdminError> {
        if reason.trim().is_empty() {
            return Err(AdminError::Refused("say why: the reason is shown until it is resumed".to_owned()));
        }
        let paused = self.partitura.client().pause(what, reason).await.map_err(AdminError::from);
        let said = |receipt: &PauseReceipt| if receipt.is_known { "done" } else { "done, of an unknown name" };
        let outcome = paused.as_ref().map_or_else(ToString::to_string, |receipt| said(receipt).to_owned());
        tracing::info!(target: "partitura::audit", who, action = "pause", %what, detail = reason, outcome);
        paused
    }

    /// Lets go on what is paused, says how many instances were asked to, and leaves a record as [`act`](Self::act)
    /// does.
    ///
    /// # Errors
    /// Those of the broker and of the store.
    ///
    /// # Cancel safety
    /// Dropped, some may have gone on, and there may be no record.
    pub async fn resume(&self, who: &str, what: &Pausable, reason: &str) -> Result<usize, AdminError> {
        let resumed = self.partitura.client().resume(what).await.map_err(AdminError::from);
        let outcome = resumed.as_ref().map_or_else(ToString::to_string, |count| format!("asked: {count}"));
        tracing::info!(target: "partitura::audit", who, action = "resume", %what, detail = reason, outcome);
        resumed
    }
}

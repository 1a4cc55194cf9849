//! The last sign of life of each running task. It is kept beside the history and overwritten, so that a task may beat
//! for hours and its instance is replayed as fast as before.

use partitura_broker::{Expect, Put, Result, Space, Timestamp};
use partitura_workflow::Payload;
use serde::{Deserialize, Serialize};

use crate::storage::beside;
use crate::storage::turn_store::TurnStore;
use crate::wire::Payloads;
use crate::wire::names::InstanceKey;
use crate::wire::waiting::Known;

/// The last sign of life of the task of each number.
pub(crate) const HEARTBEATS: Space = "heartbeats";

/// The last sign of life of a task.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Beat {
    /// The latest attempt that is known of.
    pub(crate) attempt: u32,
    /// Whether that attempt has begun. Before that, it cannot be overdue.
    pub(crate) begun: bool,
    /// The id of the message that had the attempt started. Should that come again, the attempt may not have been sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cause: Option<String>,
    /// When the sign came, or when the attempt is to begin, in milliseconds since the Unix epoch.
    pub(crate) at: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) progress: Option<Progress>,
    /// The latest attempt that was delegated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) delegated: Option<Delegated>,
    /// Since when its method has not come back to its worker, in milliseconds since the Unix epoch.
    #[serde(skip)]
    pub(crate) held_up: Option<u64>,
    /// How often it was written; 0: it is not stored.
    #[serde(skip)]
    pub(crate) version: u64,
}

/// The progress that a method reported.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Progress {
    pub(crate) attempt: u32,
    pub(crate) details: Payload,
}

/// An attempt that has ended without a result, which comes from outside.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Delegated {
    pub(crate) attempt: u32,
    /// When its time-out is over, in milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) due: Option<u64>,
}

impl Beat {
    pub(crate) fn first(attempt: u32, now: Timestamp) -> Self {
        let at = now.as_millis();
        Self { attempt, begun: true, cause: None, at, progress: None, delegated: None, held_up: None, version: 0 }
    }

    /// How the latest attempt was delegated, if it was.
    pub(crate) fn delegation(&self) -> Option<&Delegated> {
        self.delegated.as_ref().filter(|delegated| delegated.attempt == self.attempt)
    }

    /// Describes the task for those who ask.
    pub(crate) fn known(&self) -> Known {
        Known { attempt: self.attempt, is_delegated: self.delegation().is_some(), held_up: self.held_up }
    }

    /// Takes over what an attempt says of its progress. Silence takes nothing back, and neither does an earlier
    /// attempt.
    pub(crate) fn progressed(&mut self, attempt: u32, details: Option<Payload>) {
        let earlier = self.progress.as_ref().is_some_and(|progress| progress.attempt > attempt);
        if let Some(details) = details.filter(|_| !earlier) {
            self.progress = Some(Progress { attempt, details });
        }
    }

    /// Writes it, if nobody else has meanwhile.
    pub(crate) fn put(&self, payloads: &Payloads, key: &InstanceKey, run: &str, seq: u32) -> Put {
        let expect = if self.version == 0 { Expect::Absent } else { Expect::Version(self.version) };
        let value = Some(beside::encode(payloads, self));
        Put { space: HEARTBEATS, key: beside::row(key, run, seq), expect, value }
    }
}

/// Removes what was kept of a task.
pub(crate) fn remove(key: &InstanceKey, run: &str, seq: u32) -> Put {
    Put { space: HEARTBEATS, key: beside::row(key, run, seq), expect: Expect::Any, value: None }
}

/// The last signs of life of a run's tasks that are kept, by the numbers of their calls.
pub(crate) async fn kept(turn_store: &TurnStore, key: &InstanceKey, run: &str) -> Result<Vec<(u32, Beat)>> {
    let mut beats = Vec::new();
    beside::read::<Beat>(turn_store, (HEARTBEATS, key, run), |beat| match beat {
        Some((seq, version, beat)) => beats.push((seq, Beat { version, ..beat })),
        // A task does without: it begins anew, or is found overdue a little later.
        None => tracing::warn!(instance = %key, "a heartbeat was written by a newer Partitura and is passed over"),
    })
    .await?;
    Ok(beats)
}

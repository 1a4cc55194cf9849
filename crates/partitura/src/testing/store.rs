//! The promises of every [`Store`], as cases: for stores of this repository and of others.
//!
//! ```
//! # use std::sync::Arc;
//! use partitura::{BrokerStore, testing::store};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), partitura::Error> {
//! # if cfg!(not(feature = "embedded")) { return Ok(()) }
//! let broker = partitura::broker("memory:").await?;
//! let report = store::check(Arc::new(BrokerStore::new(broker)?)).await;
//! assert!(report.is_kept(), "{report}");
//! # Ok(()) }
//! ```

mod case;
mod cases;
mod cut;
mod ground;

use std::fmt;
use std::sync::Arc;

use partitura_engine::Store;

pub use self::case::Case;

/// All cases.
pub fn cases() -> Vec<Case> {
    cases::ALL.to_vec()
}

/// The results of all cases.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Report {
    /// Each case that failed, and what the store did instead.
    pub failed: Vec<(&'static str, String)>,
    /// How many cases were tried.
    pub tried: usize,
}

impl Report {
    /// Whether the store keeps all promises.
    pub fn is_kept(&self) -> bool {
        self.failed.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} of {} cases failed", self.failed.len(), self.tried)?;
        self.failed.iter().try_for_each(|(name, problem)| writeln!(f, "{name}: {problem}"))
    }
}

/// Tries all cases on a store, one after the other.
///
/// # Cancel safety
/// Safe.
pub async fn check(store: Arc<dyn Store>) -> Report {
    let mut report = Report::default();
    for case in cases::ALL {
        report.tried += 1;
        if let Err(problem) = case.check(store.clone()).await {
            report.failed.push((case.name(), problem));
        }
    }
    report
}

/// Tries what happens to writes that are under way while the connections of a store break: each group is written once
/// or not at all, and its answer says so, or says [`OutcomeUnknown`](partitura_broker::ErrorKind::OutcomeUnknown).
/// `cut` breaks all connections, ten times in all: by a proxy, by ending sessions, by a restart of the server.
///
/// This is no [`Case`], since a store alone cannot break its connections.
///
/// # Errors
/// The promise that the store did not keep.
///
/// # Cancel safety
/// Safe.
pub async fn check_cut(store: Arc<dyn Store>, cut: impl AsyncFn()) -> Result<(), String> {
    cut::check(store, cut).await
}

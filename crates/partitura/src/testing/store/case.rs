//! One case.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use partitura_engine::Store;

use super::ground::Ground;

/// How long a case may take: only a store that hangs takes as long.
const LIMIT: Duration = Duration::from_secs(120);

/// The problem, for the author of the store.
pub(super) type Verdict = Result<(), String>;
pub(super) type Run = for<'a> fn(&'a Ground) -> Pin<Box<dyn Future<Output = Verdict> + Send + 'a>>;

/// One duty of a store.
#[derive(Clone, Copy)]
pub struct Case {
    pub(super) name: &'static str,
    pub(super) duty: &'static str,
    pub(super) run: Run,
}

impl Case {
    /// Its name, which never changes.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The duty, in a sentence.
    pub fn duty(&self) -> &'static str {
        self.duty
    }

    /// Tries it on a store, under keys of its own: other values in the store are left alone, and what it writes stays
    /// there.
    ///
    /// # Errors
    /// What the store did instead.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn check(&self, store: Arc<dyn Store>) -> Result<(), String> {
        let ground = Ground::new(store);
        match tokio::time::timeout(LIMIT, (self.run)(&ground)).await {
            Ok(verdict) => verdict,
            Err(_) => Err(format!("no answer within {LIMIT:?}")),
        }
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("name", &self.name).finish_non_exhaustive()
    }
}

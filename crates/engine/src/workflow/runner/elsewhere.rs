//! Commands that this build of the program cannot read, and perhaps another can: while a new version is rolled out,
//! both are there, and the command's partition may go to the other.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::wire::names::InstanceKey;
use crate::workflow::by_instance::{ByInstance, at_most};

/// Commands that are waited for. Whichever waits longest begins anew beyond that.
const MOST: NonZeroUsize = NonZeroUsize::MIN.saturating_add(10_000 - 1);

/// Since when which command is tried. An instance has one at a time: what comes behind it waits.
#[derive(Debug)]
pub(super) struct Elsewhere {
    limit: Duration,
    build: Arc<str>,
    since: Mutex<ByInstance<(String, Instant)>>,
}

impl Elsewhere {
    pub(super) fn new(limit: Duration, build: Arc<str>) -> Self {
        Self { limit, build, since: Mutex::new(at_most(MOST)) }
    }

    /// Whether this attempt is the last: nobody could read the command for as long as is allowed.
    pub(super) fn is_over(&self, key: &InstanceKey, message_id: &str) -> bool {
        if self.limit.is_zero() {
            return true;
        }
        let since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        since.peek(key).is_some_and(|(id, since)| id == message_id && since.elapsed() >= self.limit)
    }

    /// This build cannot read the command, and why.
    pub(super) fn begin(&self, key: &InstanceKey, message_id: &str, problem: &str) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if since.get(key).is_none_or(|(id, _)| id != message_id) {
            let Self { limit, build, .. } = self;
            tracing::warn!(instance = %key, %build, ?limit, problem, "left to other builds for a time");
            since.put(key.clone(), (message_id.to_owned(), Instant::now()));
        }
    }

    /// The problem, once the time is over.
    pub(super) fn report(&self, key: &InstanceKey, problem: &str) -> String {
        self.since.lock().unwrap_or_else(PoisonError::into_inner).pop(key);
        let Self { limit, build, .. } = self;
        if limit.is_zero() {
            return format!("{problem}\n  this is build {build}");
        }
        format!("{problem}\n  no worker could read it for {limit:?}; the last to try is build {build}")
    }
}

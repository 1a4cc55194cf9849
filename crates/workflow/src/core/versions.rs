//! Which version of a change this instance lives with.

use std::ops::RangeInclusive;

use super::State;
use crate::{EventKind, StopReason};

/// The version of an instance that passed before the change was made, unless the range counts from 0.
const BEFORE_ALL_CHANGES: u32 = 1;

impl State {
    /// Notes a marker of the history ahead of its place there: an instance without one keeps the oldest version.
    pub(super) fn record_version(&mut self, change: &str, version: u32) {
        self.versions.recorded.insert(change.to_owned(), version);
    }

    /// Decides once per change. New decisions leave a marker; code that ran before the change was made keeps the oldest
    /// version.
    pub(crate) fn version(&mut self, change: &str, supported: RangeInclusive<u32>) -> u32 {
        let version = match (self.versions.decided.get(change), self.versions.recorded.get(change)) {
            (Some(decided), _) => *decided,
            (None, Some(recorded)) => self.mark(change, *recorded),
            (None, None) if self.replaying => BEFORE_ALL_CHANGES.min(*supported.start()),
            (None, None) => self.mark(change, *supported.end()),
        };
        self.versions.decided.insert(change.to_owned(), version);
        if !supported.contains(&version) {
            let change = change.to_owned();
            self.fault.get_or_insert(StopReason::UnsupportedVersion { change, version, supported });
        }
        version
    }

    fn mark(&mut self, change: &str, version: u32) -> u32 {
        let seq = self.claim_done();
        self.issue(EventKind::VersionMarked { seq, change: change.to_owned(), version });
        version
    }
}

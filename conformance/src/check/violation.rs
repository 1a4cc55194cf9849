use std::fmt;

use crate::history::Entry;

/// A broken promise, and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The name of the check.
    pub check: &'static str,
    /// The finding.
    pub what: String,
    /// The entry that shows it, if there is one.
    pub entry: Option<Box<Entry>>,
}

impl Violation {
    pub(crate) fn new(check: &'static str, what: impl Into<String>) -> Self {
        Self { check, what: what.into(), entry: None }
    }

    pub(crate) fn at(mut self, entry: &Entry) -> Self {
        self.entry = Some(Box::new(entry.clone()));
        self
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.check, self.what)?;
        self.entry.as_ref().map_or(Ok(()), |entry| write!(f, "\n  at {entry}"))
    }
}

impl std::error::Error for Violation {}

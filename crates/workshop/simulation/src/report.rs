use std::fmt;

/// The result of one world.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// The first violation; `None` if there was none.
    pub violation: Option<Violation>,
    /// The hash of the trace: two runs of one seed have the same.
    pub hash: u64,
    /// The number of lines of the trace.
    pub happenings: u64,
    /// The duration in the world's own time, in milliseconds.
    pub lasted: u64,
    /// The trace, if it was asked for.
    pub trace: Vec<String>,
}

/// A violated invariant, and the evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The invariant.
    pub invariant: &'static str,
    /// The evidence.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}

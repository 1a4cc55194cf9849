use std::fmt;

/// What became of one world.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Report {
    /// The seed that it grew from.
    pub seed: u64,
    /// What was found wrong first; `None` if nothing was.
    pub violation: Option<Violation>,
    /// Of everything that happened: two runs of one seed have the same.
    pub hash: u64,
    /// How much happened.
    pub happenings: u64,
    /// How long it took in the world's own time, in milliseconds.
    pub lasted: u64,
    /// What happened, if it was asked for.
    pub trace: Vec<String>,
}

/// An invariant that does not hold, and what shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The invariant.
    pub invariant: &'static str,
    /// What shows that it does not hold.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}

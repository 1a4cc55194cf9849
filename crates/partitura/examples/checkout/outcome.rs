use std::fmt;

/// How a checkout ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Completed,
    /// Came to nothing, as happens, for this reason; all that was done is undone.
    Compensated(&'static str),
    /// Should not happen.
    Failed(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Completed => write!(f, "completed"),
            Self::Compensated(reason) => write!(f, "was compensated ({reason})"),
            Self::Failed(error) => write!(f, "failed ({error})"),
        }
    }
}

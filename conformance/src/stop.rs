//! The end of a case.

use std::fmt;

use crate::check::Violation;

/// The end of a case.
pub(crate) type CaseResult = Result<(), Stop>;

/// The reason why a case stopped: the property does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stop(pub(crate) String);

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Violation> for Stop {
    fn from(violation: Violation) -> Self {
        Self(violation.to_string())
    }
}

impl From<partitura_broker::Error> for Stop {
    fn from(error: partitura_broker::Error) -> Self {
        Self(format!("{:?}: {error}", error.kind()))
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<String> for Stop {
    fn from(why: String) -> Self {
        Self(why)
    }
}

impl From<&str> for Stop {
    fn from(why: &str) -> Self {
        Self(why.to_owned())
    }
}

/// Ends the case if a condition does not hold.
macro_rules! ensure {
    ($condition:expr, $($why:tt)+) => {
        if !$condition {
            return Err($crate::stop::Stop(format!($($why)+)));
        }
    };
}
pub(crate) use ensure;

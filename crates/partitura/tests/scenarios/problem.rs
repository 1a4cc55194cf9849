use std::error::Error;

/// A reason for which a scenario cannot go on.
pub(crate) type Problem = Box<dyn Error + Send + Sync>;

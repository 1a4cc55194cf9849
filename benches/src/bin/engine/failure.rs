use std::error::Error;

/// A reason for which a measurement cannot be made.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

use std::error::Error;

/// What a program of the tour says, or why it could not.
pub(crate) type Said = Result<String, Box<dyn Error>>;

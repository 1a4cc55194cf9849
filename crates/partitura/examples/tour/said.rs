use std::error::Error;

/// The output of a program of the tour, or why it had none.
pub(crate) type Said = Result<String, Box<dyn Error>>;

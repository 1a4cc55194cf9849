/// The error of a command. Its text says what to do next.
pub(crate) type Failure = Box<dyn std::error::Error>;

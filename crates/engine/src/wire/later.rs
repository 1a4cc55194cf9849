use serde::{Deserialize, Serialize};

/// A moment was beyond the horizon of the broker, whose longest delay is over: it is not due yet, and the rest is to be
/// waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Later {
    /// In milliseconds since the Unix epoch.
    pub(crate) due: u64,
    /// How many such waits there were, this one included.
    pub(crate) waits: u32,
}

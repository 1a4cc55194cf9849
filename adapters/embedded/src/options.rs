use std::sync::Arc;

use partitura_broker::{Clock, Limits, SystemClock};

/// The options of an [`Embedded`](crate::Embedded) broker.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// The source of the time. Delays are waited for on tokio's clock and checked on this one.
    pub clock: Arc<dyn Clock>,
    /// Bytes of messages kept in memory while they wait for a consumer; the others are read back from the storage.
    pub resident_bytes: usize,
    /// A file up to this size, in bytes, is read completely when it is opened, to find damage before anything is
    /// written.
    pub check_up_to: u64,
    /// Sizes beyond which messages are refused. Smaller ones show in a test which messages another broker would refuse.
    pub limits: Limits,
}

impl Default for Options {
    /// The system's clock, 64 MiB of messages in memory, files up to 256 MiB checked, and the contract's limits.
    fn default() -> Self {
        let (resident_bytes, check_up_to, limits) = (64 << 20, 256 << 20, Limits::default());
        Self { clock: Arc::new(SystemClock), resident_bytes, check_up_to, limits }
    }
}

impl Options {
    /// Sets the source of the time.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the number of bytes of waiting messages that are kept in memory.
    #[must_use]
    pub fn resident_bytes(mut self, bytes: usize) -> Self {
        self.resident_bytes = bytes;
        self
    }

    /// Sets the sizes beyond which messages are refused.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the size up to which a file is read completely when it is opened.
    #[must_use]
    pub fn check_up_to(mut self, bytes: u64) -> Self {
        self.check_up_to = bytes;
        self
    }
}

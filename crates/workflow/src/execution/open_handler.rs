use crate::HandlerFuture;

/// A handler that has begun and not ended.
pub(super) struct OpenHandler {
    /// Which update it answers, if it is one.
    pub(super) update: Option<String>,
    pub(super) future: HandlerFuture,
}

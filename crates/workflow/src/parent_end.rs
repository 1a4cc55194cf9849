use serde::{Deserialize, Serialize};

/// The fate of a child when its parent ends before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ParentEnd {
    /// It is cancelled, and may clean up.
    #[default]
    Cancel,
    /// It goes on. A cancellation of the parent still reaches it while the parent awaits it.
    Abandon,
    /// It is ended at once, without running any more of its code: nothing is compensated. A cancellation of the parent,
    /// or of the child by the parent, asks it to cancel before that.
    Terminate,
}

impl ParentEnd {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

//! Requests of the engine's own workflows to instances whose types they do not know.

use crate::{Cx, EventKind, ParentEnd, Payload, SendError};

/// An instance of any workflow, by name.
#[doc(hidden)]
#[derive(Debug, Clone)]
pub struct Other {
    /// The workflow's name.
    pub workflow: String,
    /// The instance's id.
    pub id: String,
}

impl<W> Cx<W> {
    /// Starts an instance, or takes the one that is there, and lets it go. Its end is told to this channel of this
    /// workflow, in whichever run.
    ///
    /// # Errors
    /// [`SendError`] when the id cannot be that of an instance.
    #[doc(hidden)]
    pub fn start_other(
        &self,
        Other { workflow, id }: Other,
        (input, tags): (Payload, Vec<String>),
        end_channel: &str,
    ) -> Result<(), SendError> {
        self.core().check_id(&id)?;
        let mut state = self.core().enter();
        let seq = state.claim_done();
        state.issue(EventKind::ChildStarted {
            seq,
            workflow,
            id,
            input,
            detached: true,
            tags,
            replace: false,
            use_existing: true,
            on_parent_end: ParentEnd::Abandon,
            end_channel: Some(end_channel.to_owned()),
            retry: None,
        });
        Ok(())
    }

    /// Asks another workflow to end, or ends it without its code.
    ///
    /// # Errors
    /// [`SendError`] when the id cannot be that of an instance.
    #[doc(hidden)]
    pub fn end_other(&self, other: Other, terminate: bool, reason: &str) -> Result<(), SendError> {
        let Other { workflow, id } = other;
        self.core().check_id(&id)?;
        let mut state = self.core().enter();
        let seq = state.claim_done();
        state.issue(EventKind::EndRequested { seq, workflow, id, terminate, reason: reason.to_owned() });
        Ok(())
    }
}

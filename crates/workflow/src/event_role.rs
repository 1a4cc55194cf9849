//! The role of an event: an input, a command or an end, and of which number.

use crate::EventKind;

impl EventKind {
    /// Comes from outside and moves the code.
    pub fn is_input(&self) -> bool {
        !self.is_command() && !self.is_end()
    }

    /// Was asked for by the code.
    pub fn is_command(&self) -> bool {
        matches!(
            self,
            Self::TaskScheduled { .. }
                | Self::TaskCancelRequested { .. }
                | Self::Detached { .. }
                | Self::TimerStarted { .. }
                | Self::TimerCancelled { .. }
                | Self::ChildStarted { .. }
                | Self::ChildCancelRequested { .. }
                | Self::StepScheduled { .. }
                | Self::SignalSent { .. }
                | Self::UpdateCompleted { .. }
                | Self::UpdateFailed { .. }
                | Self::EndRequested { .. }
                | Self::SendRefused { .. }
                | Self::VersionMarked { .. }
                | Self::AttributeSet { .. }
        )
    }

    /// Ends the run: the instance with it, unless it [goes on](Self::hands_over) in another.
    pub fn is_end(&self) -> bool {
        matches!(
            self,
            Self::WorkflowCompleted { .. }
                | Self::WorkflowFailed { .. }
                | Self::WorkflowCancelled { .. }
                | Self::WorkflowContinued { .. }
                | Self::WorkflowRetried { .. }
        )
    }

    /// Ends the run and not the instance, which goes on in another run: it [continues](Self::WorkflowContinued) or is
    /// [tried again](Self::WorkflowRetried).
    pub fn hands_over(&self) -> bool {
        matches!(self, Self::WorkflowContinued { .. } | Self::WorkflowRetried { .. })
    }

    /// An end that the code had no part in: the engine terminated the instance or its time was up.
    pub fn is_imposed_end(&self) -> bool {
        use crate::FailureKind::{Terminated, TimedOut};
        match self {
            Self::WorkflowFailed { failure } | Self::WorkflowRetried { failure, .. } => {
                matches!(failure.kind, Terminated | TimedOut)
            }
            _ => false,
        }
    }

    /// The number of what this is about, if it has one.
    pub fn seq(&self) -> Option<u32> {
        match self {
            Self::TaskCompleted { seq, .. }
            | Self::TaskFailed { seq, .. }
            | Self::TaskHeartbeat { seq, .. }
            | Self::TimerFired { seq }
            | Self::ChildCompleted { seq, .. }
            | Self::ChildFailed { seq, .. }
            | Self::StepCompleted { seq, .. }
            | Self::StepFailed { seq, .. }
            | Self::TaskScheduled { seq, .. }
            | Self::TaskCancelRequested { seq }
            | Self::Detached { seq }
            | Self::TimerStarted { seq, .. }
            | Self::TimerCancelled { seq }
            | Self::ChildStarted { seq, .. }
            | Self::ChildCancelRequested { seq }
            | Self::StepScheduled { seq, .. }
            | Self::SignalSent { seq, .. }
            | Self::EndRequested { seq, .. }
            | Self::SendRefused { seq, .. }
            | Self::VersionMarked { seq, .. }
            | Self::AttributeSet { seq, .. } => Some(*seq),
            Self::WorkflowStarted(_)
            | Self::SignalReceived { .. }
            | Self::UpdateReceived { .. }
            | Self::UpdateCompleted { .. }
            | Self::UpdateFailed { .. }
            | Self::CancelRequested { .. }
            | Self::WorkflowStopped { .. }
            | Self::WorkflowResumed { .. }
            | Self::WorkflowPaused { .. }
            | Self::Intervened { .. }
            | Self::WorkflowCompleted { .. }
            | Self::WorkflowFailed { .. }
            | Self::WorkflowCancelled { .. }
            | Self::WorkflowContinued { .. }
            | Self::WorkflowRetried { .. } => None,
        }
    }
}

//! Events in one line, for people: `TaskScheduled Payments.charge`, `TimerStarted 3d`.

use std::fmt;

use crate::duration::readable;
use crate::{Event, EventKind};

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            EventKind::TimerStarted { due_at_ms, after_ms, .. } => {
                let lasts = after_ms.unwrap_or_else(|| due_at_ms.saturating_sub(self.at));
                write!(f, "TimerStarted {}", readable(lasts))
            }
            kind => write!(f, "{kind}"),
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WorkflowStarted(started) => write!(f, "WorkflowStarted {}/{}", started.workflow, started.id),
            Self::SignalReceived { name, .. } => write!(f, "SignalReceived {name}"),
            Self::UpdateReceived { name, .. } => write!(f, "UpdateReceived {name}"),
            Self::CancelRequested { .. } => f.write_str("CancelRequested"),
            Self::TaskCompleted { seq, .. } => write!(f, "TaskCompleted #{seq}"),
            Self::TaskFailed { seq, failure, .. } => write!(f, "TaskFailed #{seq} ({failure})"),
            Self::TaskHeartbeat { seq, .. } => write!(f, "TaskHeartbeat #{seq}"),
            Self::TimerFired { seq } => write!(f, "TimerFired #{seq}"),
            Self::ChildCompleted { seq, .. } => write!(f, "ChildCompleted #{seq}"),
            Self::ChildFailed { seq, failure } => write!(f, "ChildFailed #{seq} ({failure})"),
            Self::StepCompleted { seq, .. } => write!(f, "StepCompleted #{seq}"),
            Self::StepFailed { seq, failure } => write!(f, "StepFailed #{seq} ({failure})"),
            Self::WorkflowStopped { reason } => write!(f, "WorkflowStopped ({reason})"),
            Self::WorkflowPaused { reason } => write!(f, "WorkflowPaused ({reason})"),
            Self::Intervened { action, reason } => write!(f, "Intervened: {action} ({reason})"),
            Self::WorkflowResumed { refused } if refused.is_empty() => f.write_str("WorkflowResumed"),
            Self::WorkflowResumed { refused } => write!(f, "WorkflowResumed without {refused:?}"),
            Self::TaskScheduled { service, method, .. } => write!(f, "TaskScheduled {service}.{method}"),
            Self::TaskCancelRequested { seq } => write!(f, "TaskCancelRequested #{seq}"),
            Self::Detached { seq } => write!(f, "Detached #{seq}"),
            Self::TimerStarted { due_at_ms, .. } => write!(f, "TimerStarted until {due_at_ms} ms"),
            Self::TimerCancelled { seq } => write!(f, "TimerCancelled #{seq}"),
            Self::ChildStarted { workflow, id, .. } => write!(f, "ChildStarted {workflow}/{id}"),
            Self::ChildCancelRequested { seq } => write!(f, "ChildCancelRequested #{seq}"),
            Self::StepScheduled { name, .. } => write!(f, "StepScheduled {name}"),
            Self::SignalSent { workflow, id, name, .. } => write!(f, "SignalSent {name} to {workflow}/{id}"),
            Self::UpdateCompleted { id, .. } => write!(f, "UpdateCompleted {id}"),
            Self::UpdateFailed { id, failure } => write!(f, "UpdateFailed {id} ({failure})"),
            Self::EndRequested { workflow, id, terminate, .. } => {
                write!(f, "EndRequested of {workflow}/{id}{}", if *terminate { " at once" } else { "" })
            }
            Self::SendRefused { workflow, id, bytes, .. } => {
                write!(f, "SendRefused to {workflow}/{id}: {bytes} bytes")
            }
            Self::VersionMarked { change, version, .. } => write!(f, "VersionMarked {change} = {version}"),
            Self::AttributeSet { name, value: Some(value), .. } => write!(f, "AttributeSet {name} = {value}"),
            Self::AttributeSet { name, value: None, .. } => write!(f, "AttributeSet {name} to none"),
            Self::WorkflowCompleted { .. } => f.write_str("WorkflowCompleted"),
            Self::WorkflowFailed { failure } => write!(f, "WorkflowFailed ({failure})"),
            Self::WorkflowCancelled { .. } => f.write_str("WorkflowCancelled"),
            Self::WorkflowContinued { .. } => f.write_str("WorkflowContinued"),
            Self::WorkflowRetried { failure, .. } => write!(f, "WorkflowRetried ({failure})"),
        }
    }
}

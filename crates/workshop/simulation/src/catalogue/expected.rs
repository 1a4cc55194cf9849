//! The expectations of models.

use partitura::Workflow;
use partitura::history::EventKind;
use serde::Serialize;
use serde_json::Value;

/// The reason with which instances of the catalogue are cancelled or terminated.
pub(crate) const REASON: &str = "the hall is closed";

/// The expectation of a model about a run.
#[derive(Debug, PartialEq)]
pub(crate) struct Expected {
    pub(crate) outcome: Outcome,
    /// The tasks that are scheduled, in their order.
    pub(crate) calls: Vec<String>,
    /// Other instances that it starts, by workflow and id, and their ends.
    pub(crate) others: Vec<(&'static str, String, Outcome)>,
}

impl Expected {
    pub(super) fn new(outcome: Outcome, calls: Vec<String>) -> Self {
        Self { outcome, calls, others: Vec::new() }
    }

    pub(super) fn and<W: Workflow>(mut self, id: String, outcome: Outcome) -> Self {
        self.others.push((W::NAME, id, outcome));
        self
    }
}

/// The end of an instance.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    Ok(Value),
    Err(Value),
    Cancelled(String),
    Other(String),
}

impl Outcome {
    pub(super) fn ok(result: &impl Serialize) -> Self {
        Self::Ok(value(result))
    }

    pub(super) fn err(error: &impl Serialize) -> Self {
        Self::Err(value(error))
    }
}

/// Inputs and outcomes of the catalogue are plain data.
fn value(of: &impl Serialize) -> Value {
    serde_json::to_value(of).unwrap_or(Value::Null)
}

/// A scheduled task as models write it.
pub(crate) fn call(event: &EventKind) -> Option<String> {
    let EventKind::TaskScheduled { method, args, .. } = event else { return None };
    let args: Value = args.decode().ok()?;
    let name = args.pointer("/call/name").or_else(|| args.get("name"))?;
    Some(format!("{method}({})", name.as_str()?))
}

//! Tells the instance of a task that its method does not come back.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::pulse::Word;
use super::runner::TaskRunner;
use crate::code::Beside;
use crate::wire::names::InstanceKey;
use crate::wire::{ReplyTo, TaskRequest};

/// A method that runs for a task.
pub(super) struct Method {
    runner: TaskRunner,
    request: Arc<TaskRequest>,
    listens_at: ReplyTo,
    runtime: Handle,
}

impl Method {
    pub(super) fn new(runner: &TaskRunner, request: &Arc<TaskRequest>, listens_at: &ReplyTo) -> Self {
        let (runner, request, listens_at) = (runner.clone(), request.clone(), listens_at.clone());
        Self { runner, request, listens_at, runtime: Handle::current() }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TaskRequest { service, method, seq, attempt, .. } = &*self.request;
        write!(f, "{service}.{method}, task {seq}, attempt {attempt}")
    }
}

impl Beside for Method {
    fn instance(&self) -> InstanceKey {
        InstanceKey::new(&self.request.workflow, &self.request.id)
    }

    fn is_stuck(&self, runs_for: Duration) {
        let runs_for = u64::try_from(runs_for.as_millis()).unwrap_or(u64::MAX);
        let since = self.runner.clock.now().as_millis().saturating_sub(runs_for);
        let (runner, request, listens_at) = (self.runner.clone(), self.request.clone(), self.listens_at.clone());
        let word = Word { details: None, alive: false, held_up: Some(since) };
        self.runtime.spawn(async move { runner.say(&request, word, &listens_at).await });
    }
}

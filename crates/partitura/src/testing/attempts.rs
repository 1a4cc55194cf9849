use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use partitura_engine::TaskContext;
use partitura_workflow::__private::{BoxFuture, FutureExt};
use partitura_workflow::{Failure, MethodInfo, Payload, Service, TaskFailure};
use tokio::sync::watch;

/// A task that was tried more often than a test waits for.
#[derive(Debug, Clone)]
pub(super) struct Repeated {
    pub(super) workflow: String,
    pub(super) id: String,
    pub(super) service: &'static str,
    pub(super) method: String,
    /// How many attempts have failed.
    pub(super) failed: u32,
    /// How the last of them failed, where that is known.
    pub(super) failure: String,
}

/// Counts the attempts of tasks: in virtual time, retries without an end take no time and never end.
#[derive(Debug)]
pub(super) struct Attempts {
    most: AtomicU32,
    /// By idempotency key.
    failures: Mutex<HashMap<String, String>>,
    repeated: watch::Sender<Option<Repeated>>,
}

impl Attempts {
    pub(super) fn new(most: u32) -> Self {
        Self { most: most.into(), failures: Mutex::default(), repeated: watch::Sender::new(None) }
    }

    pub(super) fn limit(&self, most: u32) {
        self.most.store(most, Ordering::Relaxed);
    }

    /// Learns of each attempt beyond the limit.
    pub(super) fn subscribe(&self) -> watch::Receiver<Option<Repeated>> {
        self.repeated.subscribe()
    }

    fn failures(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, service: &'static str, method: &str) {
        let Some(task) = TaskContext::current() else { return };
        let failed = task.attempt().saturating_sub(1);
        if failed < self.most.load(Ordering::Relaxed) {
            return;
        }
        let failure = self.failures().get(&task.idempotency_key()).cloned();
        self.repeated.send_replace(Some(Repeated {
            workflow: task.workflow().to_owned(),
            id: task.workflow_id().to_owned(),
            service,
            method: method.to_owned(),
            failed,
            failure: failure.unwrap_or_else(|| "no result in time".to_owned()),
        }));
    }

    fn end(&self, failure: Option<String>) {
        let Some(key) = TaskContext::current().map(|task| task.idempotency_key()) else { return };
        match failure {
            Some(failure) => self.failures().insert(key, failure),
            None => self.failures().remove(&key),
        };
    }
}

/// A service whose attempts are counted.
pub(super) struct Counted<S> {
    pub(super) service: S,
    pub(super) attempts: Arc<Attempts>,
}

impl<S: Service> Service for Counted<S> {
    fn name(&self) -> &'static str {
        self.service.name()
    }

    fn methods(&self) -> &'static [MethodInfo] {
        self.service.methods()
    }

    fn call<'a>(&'a self, method: &'a str, args: Payload) -> BoxFuture<'a, Result<Payload, TaskFailure>> {
        let call = async move {
            self.attempts.begin(self.name(), method);
            let outcome = AssertUnwindSafe(self.service.call(method, args)).catch_unwind().await;
            self.attempts.end(match &outcome {
                Ok(Ok(_)) => None,
                Ok(Err(failed)) => Some(failed.failure.to_string()),
                Err(panic) => Some(Failure::panic(&**panic).to_string()),
            });
            outcome.unwrap_or_else(|panic| resume_unwind(panic))
        };
        call.boxed()
    }
}

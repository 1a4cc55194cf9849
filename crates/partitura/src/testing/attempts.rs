use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use partitura_engine::TaskContext;
use partitura_workflow::__private::{BoxFuture, FutureExt};
use partitura_workflow::{Answers, BatchOptions, Failure, Limit, MethodInfo, Payload, Service, TaskFailure};
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

    fn begin(&self, task: &TaskContext, service: &'static str, method: &str) {
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

    fn end(&self, task: &TaskContext, failure: Option<String>) {
        let key = task.idempotency_key();
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

    fn limits(&self) -> Vec<Limit> {
        self.service.limits()
    }

    fn call<'a>(&'a self, method: &'a str, args: Payload) -> BoxFuture<'a, Result<Payload, TaskFailure>> {
        self.counted(method, self.service.call(method, args), |answer| vec![failure(answer)]).boxed()
    }

    fn batch(&self, method: &str) -> Option<BatchOptions> {
        self.service.batch(method)
    }

    fn check(&self, method: &str, args: &Payload) -> Result<(), TaskFailure> {
        self.service.check(method, args)
    }

    fn call_batch<'a>(&'a self, method: &'a str, calls: Vec<Payload>) -> BoxFuture<'a, Answers> {
        self.counted(method, self.service.call_batch(method, calls), |answers| answers.iter().map(failure).collect())
            .boxed()
    }
}

impl<S: Service> Counted<S> {
    /// Counts the attempts of a call, or of several that come together.
    async fn counted<T>(
        &self,
        method: &str,
        call: impl Future<Output = T> + Send,
        failures: impl Fn(&T) -> Vec<Option<String>>,
    ) -> T {
        let tasks = TaskContext::batch();
        tasks.iter().for_each(|task| self.attempts.begin(task, self.name(), method));
        let outcome = AssertUnwindSafe(call).catch_unwind().await;
        let failures = match &outcome {
            Ok(answers) => failures(answers),
            Err(panic) => vec![Some(Failure::panic(&**panic).to_string()); tasks.len()],
        };
        tasks.iter().zip(failures).for_each(|(task, failure)| self.attempts.end(task, failure));
        outcome.unwrap_or_else(|panic| resume_unwind(panic))
    }
}

fn failure(answer: &Result<Payload, TaskFailure>) -> Option<String> {
    answer.as_ref().err().map(|failed| failed.failure.to_string())
}

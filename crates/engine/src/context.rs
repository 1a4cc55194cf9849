use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use partitura_workflow::{Payload, PayloadError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::wire::TaskRequest;

tokio::task_local! {
    static CURRENT: TaskContext;
}

/// What a service's method can know about the task that it runs as. Inside a method: [`TaskContext::current`].
///
/// ```
/// use partitura_engine::TaskContext;
///
/// async fn charge(amount: u64) {
///     // `None` in a unit test that calls the method directly.
///     let key = TaskContext::current().map(|task| task.idempotency_key());
///     println!("charging {amount}, once for {key:?}");
/// }
/// # assert!(TaskContext::current().is_none());
/// ```
#[derive(Clone)]
pub struct TaskContext(Arc<Inner>);

struct Inner {
    request: Arc<TaskRequest>,
    last_heartbeat: Option<Payload>,
    beat: watch::Sender<Option<Payload>>,
    wanted: watch::Receiver<bool>,
}

impl TaskContext {
    pub(crate) fn new(
        request: Arc<TaskRequest>,
        last_heartbeat: Option<Payload>,
        beat: watch::Sender<Option<Payload>>,
        wanted: watch::Receiver<bool>,
    ) -> Self {
        Self(Arc::new(Inner { request, last_heartbeat, beat, wanted }))
    }

    pub(crate) async fn scope<F: Future>(self, future: F) -> F::Output {
        CURRENT.scope(self, future).await
    }

    /// The context of the task that this code runs in; `None` outside of one, and in tasks that were spawned from it.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    /// Stable over all attempts, unique among all tasks: what an outside system deduplicates by.
    pub fn idempotency_key(&self) -> String {
        self.0.request.idempotency_key()
    }

    /// From 1. A task whose worker was lost comes again with the same number.
    pub fn attempt(&self) -> u32 {
        self.0.request.attempt
    }

    /// The name of the workflow that asked for the task.
    pub fn workflow(&self) -> &str {
        &self.0.request.workflow
    }

    /// The id of the workflow that asked for the task.
    pub fn workflow_id(&self) -> &str {
        &self.0.request.id
    }

    /// Says that the task is alive, and how far it is: kept for the next attempt should this one be lost.
    ///
    /// Sent in the background, the latest of several at a time: call it as often as is convenient.
    ///
    /// # Errors
    /// When `details` cannot be encoded as JSON.
    pub fn heartbeat<T: Serialize>(&self, details: &T) -> Result<(), PayloadError> {
        self.0.beat.send_replace(Some(Payload::encode_unproven(details)?));
        Ok(())
    }

    /// What the last heartbeat of an earlier attempt said.
    ///
    /// # Errors
    /// When it is of another type.
    pub fn last_heartbeat<T: DeserializeOwned>(&self) -> Result<Option<T>, PayloadError> {
        self.0.last_heartbeat.as_ref().map(Payload::decode).transpose()
    }

    /// Whether the workflow still wants the result. Learned from heartbeats: a task that sends none never sees `false`.
    pub fn is_wanted(&self) -> bool {
        *self.0.wanted.borrow()
    }

    /// Waits until the workflow no longer wants the result: it was cancelled, or has ended.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn unwanted(&self) {
        let mut wanted = self.0.wanted.clone();
        if wanted.wait_for(|wanted| !wanted).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// How long one attempt may take, where it was stated.
    pub fn timeout(&self) -> Option<Duration> {
        self.0.request.options.timeout
    }
}

impl fmt::Debug for TaskContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskContext")
            .field("idempotency_key", &self.idempotency_key())
            .field("attempt", &self.attempt())
            .finish_non_exhaustive()
    }
}

//! The knowledge of a method about its task.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use partitura_workflow::{Payload, PayloadError, TooLarge};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::messaging::directory::Directory;
use crate::shutdown::Shutdown;
use crate::wire::token::TaskToken;
use crate::wire::{TaskRequest, sizes};

tokio::task_local! {
    static CURRENT: TaskContext;
    static BATCH: Vec<TaskContext>;
}

/// The task that a service's method runs as. Inside a method: [`TaskContext::current`].
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
    cancelled: watch::Receiver<bool>,
    handed_over: watch::Sender<HandedOver>,
    /// For how long the next attempt is to wait at least.
    retry_after: Mutex<Option<Duration>>,
    shutdown: Shutdown,
    directory: Arc<Directory>,
}

/// How far an attempt has left its completion to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum HandedOver {
    Nothing,
    /// Others may have its token.
    Token,
    /// It has ended without a result.
    All,
}

impl TaskContext {
    pub(crate) fn new(
        request: Arc<TaskRequest>,
        last_heartbeat: Option<Payload>,
        beat: watch::Sender<Option<Payload>>,
        cancelled: watch::Receiver<bool>,
        shutdown: Shutdown,
        directory: Arc<Directory>,
    ) -> Self {
        let handed_over = watch::Sender::new(HandedOver::Nothing);
        let retry_after = Mutex::default();
        Self(Arc::new(Inner {
            request,
            last_heartbeat,
            beat,
            cancelled,
            handed_over,
            retry_after,
            shutdown,
            directory,
        }))
    }

    /// How far the attempt leaves its completion to others.
    pub(crate) fn handed_over(&self) -> watch::Receiver<HandedOver> {
        self.0.handed_over.subscribe()
    }

    fn hand_over(&self, what: HandedOver) {
        self.0.handed_over.send_if_modified(|handed_over| {
            let more = what > *handed_over;
            *handed_over = what.max(*handed_over);
            more
        });
    }

    pub(crate) async fn scope<F: Future>(self, future: F) -> F::Output {
        CURRENT.scope(self, future).await
    }

    pub(crate) async fn scope_batch<F: Future>(contexts: Vec<Self>, future: F) -> F::Output {
        BATCH.scope(contexts, future).await
    }

    /// The contexts of the calls that came together, in the order of the arguments, inside of a method that takes many
    /// at once (`#[batch(…)]`). Elsewhere that of the [current](Self::current) task, if there is one.
    ///
    /// ```
    /// use partitura_engine::TaskContext;
    ///
    /// // The implementation of `#[batch(max = 100, within_ms = 20)] async fn index(&self, docs: Vec<String>) -> Vec<Result<(), String>>`.
    /// async fn index(docs: Vec<String>) -> Vec<Result<(), String>> {
    ///     for (doc, task) in docs.iter().zip(TaskContext::batch()) {
    ///         println!("{doc} is to be indexed once for {}", task.idempotency_key());
    ///     }
    ///     docs.iter().map(|_| Ok(())).collect()
    /// }
    /// ```
    pub fn batch() -> Vec<Self> {
        BATCH.try_with(Clone::clone).unwrap_or_else(|_| Self::current().into_iter().collect())
    }

    /// The context of the task that this code runs in; `None` outside of one, in tasks that were spawned from it, and
    /// in a [batch](Self::batch).
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    /// Stable over all attempts, unique among all tasks: what an outside system deduplicates by.
    pub fn idempotency_key(&self) -> String {
        self.0.request.idempotency_key()
    }

    /// From 1. If the worker of a task was lost, the broker delivers the task again with the same number; if the task
    /// has a heartbeat time-out, its workflow starts the next attempt instead, with the next number.
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

    /// Says that the task is alive, and how far it is. The details are kept for the next attempt; see
    /// [`last_heartbeat`](Self::last_heartbeat).
    ///
    /// It is sent in the background, the latest of several at a time: call it as often as is convenient.
    ///
    /// # Errors
    /// When `details` cannot be encoded as JSON, or are too large for a message of the broker: then this is no sign of
    /// life.
    pub fn heartbeat<T: Serialize>(&self, details: &T) -> Result<(), PayloadError> {
        let Inner { request, directory, beat, .. } = &*self.0;
        let details = Payload::encode_unproven(details)?;
        let (bytes, limit) =
            (directory.payloads().encode(&details).len(), sizes::limit(directory, &request.workflow, &request.id));
        if bytes > limit {
            return Err(PayloadError::too_large("the progress of the task", TooLarge { bytes, limit }));
        }
        beat.send_replace(Some(details));
        Ok(())
    }

    /// Gives the details of the last heartbeat of an earlier attempt.
    ///
    /// # Errors
    /// When it is of another type.
    pub fn last_heartbeat<T: DeserializeOwned>(&self) -> Result<Option<T>, PayloadError> {
        self.0.last_heartbeat.as_ref().map(Payload::decode).transpose()
    }

    /// Whether the workflow no longer wants the result: the call was cancelled or its future dropped, the workflow has
    /// ended, or another attempt has taken the place of this one.
    ///
    /// A method that returns after that is not called again. A method that does not look runs to its end as if nothing
    /// had happened. The workflow tells a method that has run for two seconds or more within moments. If another worker
    /// has taken over the workflow meanwhile, the method learns it with its next heartbeat, or within half a minute.
    pub fn is_cancelled(&self) -> bool {
        *self.0.cancelled.borrow()
    }

    /// Waits until the task [is cancelled](Self::is_cancelled).
    ///
    /// ```
    /// # use partitura_engine::TaskContext;
    /// # async fn next_page() -> Option<u32> { None }
    /// async fn export() -> Result<(), String> {
    ///     let task = TaskContext::current().ok_or("not called as a task")?;
    ///     loop {
    ///         tokio::select! {
    ///             () = task.cancelled() => return Err("nobody wants it any more".to_owned()),
    ///             page = next_page() => if page.is_none() { return Ok(()) },
    ///         }
    ///     }
    /// }
    /// ```
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn cancelled(&self) {
        let mut cancelled = self.0.cancelled.clone();
        if cancelled.wait_for(|cancelled| *cancelled).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Asks for the next attempt, if this one fails, and for it to wait at least for so long as this: the time that a
    /// `Retry-After` of another service says, for example. The number of attempts, and longer waits, are those of the
    /// policy; where none was stated, those of [`Retry::default`](partitura_workflow::Retry::default). The last call
    /// counts.
    ///
    /// ```
    /// # use partitura_engine::TaskContext;
    /// # use std::time::Duration;
    /// # fn busy(seconds: u64) -> Result<(), String> {
    /// if let Some(task) = TaskContext::current() {
    ///     task.retry_after(Duration::from_secs(seconds));
    /// }
    /// Err("the other side is busy".to_owned())
    /// # }
    /// # assert!(busy(1).is_err());
    /// ```
    pub fn retry_after(&self, wait: Duration) {
        *self.0.retry_after.lock().unwrap_or_else(PoisonError::into_inner) = Some(wait);
    }

    /// For how long the next attempt is to wait at least, if the method has said so.
    pub(crate) fn asked_wait(&self) -> Option<Duration> {
        *self.0.retry_after.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the worker is being stopped. It waits for its tasks for as long as
    /// [`Builder::drain_within`](crate::Builder::drain_within) says; those that are not finished then run again
    /// elsewhere.
    pub fn is_draining(&self) -> bool {
        self.0.shutdown.clone().now_or_never().is_some()
    }

    /// Waits until the worker [is being stopped](Self::is_draining): the moment to keep the progress, by a
    /// [heartbeat](Self::heartbeat) for example, and to return.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn draining(&self) {
        // A worker that was dropped is over as well.
        let _ = self.0.shutdown.clone().await;
    }

    /// The token by which anybody may complete the task from outside, once the method has [delegated](Self::delegate)
    /// it, or before.
    pub fn token(&self) -> TaskToken {
        self.hand_over(HandedOver::Token);
        self.0.request.token()
    }

    /// Ends the attempt without a result, which comes from outside: a person decides, or another system calls back.
    /// Never resolves, whatever its type is; the method goes no further.
    ///
    /// ```
    /// use partitura_engine::{Client, ClientError, TaskContext, TaskToken};
    ///
    /// # async fn mail(_to: &str, _token: &TaskToken) {}
    /// // The method of a service.
    /// async fn approve(order: String) -> Result<bool, String> {
    ///     let Some(task) = TaskContext::current() else { return Err("not called as a task".to_owned()) };
    ///     mail(&order, &task.token()).await;
    ///     task.delegate().await
    /// }
    ///
    /// // Hours later, in any process that reaches the broker.
    /// async fn decided(client: Client, token: String, yes: bool) -> Result<(), Box<dyn std::error::Error>> {
    ///     Ok(client.complete_task(&token.parse()?, &yes).confirmed().await?)
    /// }
    /// ```
    ///
    /// * The task stays open until [`Client::complete_task`](crate::Client::complete_task) or
    ///   [`Client::fail_task`](crate::Client::fail_task), a time-out, or its cancellation. No worker is held meanwhile.
    /// * Stated time-outs go on: the overall one, and that of an attempt from its beginning until its completion. The
    ///   default one ends here: others may take as long as they like. A heartbeat time-out asks for
    ///   [`Client::heartbeat_task`](crate::Client::heartbeat_task). After a time-out, the next attempt calls the method
    ///   again. It has a token of its own, and the old one is refused.
    /// * Hand the token out before this. If the worker dies between the two, the method is called again: mostly as the
    ///   same attempt, with the same token, so that both copies of the token are good for one completion. If it has a
    ///   heartbeat time-out, as the next attempt, and the first token is refused.
    /// * In a [batch](Self::batch) this does not return, and neither do the other calls: delegate from a method of its
    ///   own.
    /// * A [detached](partitura_workflow::TaskHandle::detach) task whose workflow has ended is over with this: nobody
    ///   awaits it.
    ///
    /// # Cancel safety
    /// From its first poll on the attempt has ended, also if the future is dropped.
    pub async fn delegate<T>(&self) -> T {
        self.hand_over(HandedOver::All);
        std::future::pending().await
    }

    /// How long the method may run: what was stated, else the default.
    pub fn timeout(&self) -> Option<Duration> {
        self.0.request.options.run_timeout()
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

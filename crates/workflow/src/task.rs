use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::core::{Core, Leaf, Resolution, SlotKind};
use crate::{EventKind, FailureKind, OwnErrors, Payload, PayloadError, Retry, SendError, TaskError, TaskOptions};

/// A call of a service's method. A plain, lazy future: the call goes out when it is first polled, or by
/// [`start`](Task::start).
///
/// Dropped before it has its result, it cancels the task, as the loser of a `select!` is; see
/// [`Cx`](crate::Cx#dropping-a-future).
///
/// # Errors
/// Resolves to a [`TaskError`]; see [`TaskOptions`] for what was retried before.
#[must_use = "a task does nothing until it is awaited or started"]
pub struct Task<T, E> {
    leaf: Leaf,
    request: Option<Request>,
    output: PhantomData<fn() -> Result<T, E>>,
}

struct Request {
    service: &'static str,
    method: &'static str,
    args: Result<Payload, PayloadError>,
    options: TaskOptions,
}

impl<T, E> Task<T, E> {
    /// When to run it again after a failure, and how often. [What](TaskOptions) is tried again is another question: of
    /// the service's own errors those that the service marks as transient, and the others with
    /// [`retry_errors`](Self::retry_errors) only.
    pub fn retry(self, retry: Retry) -> Self {
        self.with(|options| options.retry = Some(retry))
    }

    /// Has the service's own errors tried again, too, of which neither the method's `retry_if` nor their type says
    /// anything.
    ///
    /// Which errors are worth another attempt is best said by the service, which has the error: by
    /// `#[task(retry_if = |error: &Declined| …)]`, or by [`Transient`](crate::Transient) of the error type.
    ///
    /// ```
    /// # use partitura_workflow::{Retry, Task, TaskError, seconds};
    /// # async fn example(statement: Task<String, String>) -> Result<String, TaskError<String>> {
    /// statement.retry(Retry::fixed(seconds(10)).max_attempts(3)).retry_errors().await
    /// # }
    /// ```
    pub fn retry_errors(self) -> Self {
        self.with(|options| options.own_errors = Some(OwnErrors::Retried))
    }

    /// How long one attempt may take. A task for which neither this nor an overall or a heartbeat time-out is stated,
    /// for the call or the method, may run for an hour.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.with(|options| options.timeout = Some(timeout))
    }

    /// Lets an attempt take as long as it takes. If its worker hangs, nobody notices.
    pub fn no_timeout(self) -> Self {
        self.with(|options| (options.timeout, options.no_timeout) = (None, true))
    }

    /// How long all attempts may take together, waits included.
    pub fn overall_timeout(self, timeout: Duration) -> Self {
        self.with(|options| options.overall_timeout = Some(timeout))
    }

    /// How long the task may wait until a worker begins with it; otherwise it fails with [`TaskError::NotStarted`], and
    /// is not called any more. The workflow hears of the beginning, and from then on this limits nothing.
    pub fn start_timeout(self, timeout: Duration) -> Self {
        self.with(|options| options.start_timeout = Some(timeout))
    }

    /// How long an attempt may go without a heartbeat before its worker counts as lost.
    pub fn heartbeat_timeout(self, timeout: Duration) -> Self {
        self.with(|options| options.heartbeat_timeout = Some(timeout))
    }

    /// Begins the call now, to be awaited later. Dropping the handle does not cancel the task.
    pub fn start(mut self) -> TaskHandle<T, E> {
        self.issue();
        self.leaf.keep();
        TaskHandle(self)
    }

    fn with(mut self, change: impl FnOnce(&mut TaskOptions)) -> Self {
        if let Some(request) = &mut self.request {
            change(&mut request.options);
        }
        self
    }

    /// Sends the call unless it was sent before, or cannot be encoded (then the request stays, with the error).
    fn issue(&mut self) {
        let Some(Request { service, method, args: Ok(args), options }) = self.request.take_if(|r| r.args.is_ok())
        else {
            return;
        };
        let (service, method) = (service.to_owned(), method.to_owned());
        let options = options.complete();
        self.leaf.issue(SlotKind::Task, |seq, _| EventKind::TaskScheduled { seq, service, method, args, options });
    }
}

impl<T: DeserializeOwned, E: DeserializeOwned> Future for Task<T, E> {
    type Output = Result<T, TaskError<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.issue();
        if let Some(Request { service, method, args: Err(error), .. }) = &self.request {
            return Poll::Ready(Err(TaskError::Unknown(format!("{service}.{method}: {error}"))));
        }
        Poll::Ready(task_output(&self.leaf, ready!(self.leaf.poll(cx))))
    }
}

impl<T, E> fmt::Debug for Task<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Task").field(&self.leaf).finish()
    }
}

/// A task that was begun. Awaiting it gives the result. Dropping it leaves the task running, until the workflow ends:
/// what is open then is cancelled, unless it was [detached](TaskHandle::detach).
#[must_use = "drop it explicitly if the result does not matter"]
#[derive(Debug)]
pub struct TaskHandle<T, E>(Task<T, E>);

impl<T, E> TaskHandle<T, E> {
    /// Asks the worker to stop it. The handle resolves with [`TaskError::Cancelled`], unless it has its result already.
    pub fn cancel(&self) {
        self.0.leaf.cancel(SlotKind::Task);
    }

    /// Lets the task outlive the workflow: neither its cancellation nor its end stops the task, and nobody awaits its
    /// result.
    ///
    /// ```
    /// # use partitura_workflow::{Cx, Never, Task};
    /// # fn mail<W>(cx: &Cx<W>) -> Task<(), Never> { unimplemented!() }
    /// # async fn example<W>(cx: Cx<W>) -> Result<(), partitura_workflow::SendError> {
    /// mail(&cx).start().detach()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`SendError::Payload`] when the arguments could not be encoded: the task was never begun.
    pub fn detach(mut self) -> Result<(), SendError> {
        if let Some(Request { args: Err(error), .. }) = self.0.request.take() {
            return Err(error.into());
        }
        self.0.leaf.detach();
        Ok(())
    }
}

impl<T: DeserializeOwned, E: DeserializeOwned> Future for TaskHandle<T, E> {
    type Output = Result<T, TaskError<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}

/// Makes tasks; generated stubs are built around it.
#[derive(Debug, Clone)]
pub struct Caller {
    core: Arc<Core>,
}

impl Caller {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// A task by the names of its service and method, for what no stub covers. Arguments are a JSON object by argument
    /// name.
    pub fn task<T, E>(
        &self,
        service: &'static str,
        method: &'static str,
        args: Result<Payload, PayloadError>,
        options: TaskOptions,
    ) -> Task<T, E> {
        let request = Some(Request { service, method, args, options });
        Task { leaf: Leaf::claim(&self.core), request, output: PhantomData }
    }
}

/// Gives the result of a task or a step to the code that awaits it.
pub(crate) fn task_output<T: DeserializeOwned, E: DeserializeOwned>(
    leaf: &Leaf,
    resolution: Resolution,
) -> Result<T, TaskError<E>> {
    match resolution {
        Resolution::Value(payload) => {
            payload.decode().map_err(|error| TaskError::Unknown(leaf.unread(error.to_string())))
        }
        Resolution::Failed(failure) => {
            let is_typed = failure.kind == FailureKind::Application;
            Err(match (is_typed, (*failure).into()) {
                (true, TaskError::Unknown(problem)) => TaskError::Unknown(leaf.unread(problem)),
                (_, error) => error,
            })
        }
        Resolution::Fired | Resolution::Cancelled => Err(TaskError::Cancelled),
    }
}

//! Layers: code around the calls of tasks, the turns of instances and the requests of clients.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use partitura_workflow::{Failure, FailureKind, Payload, TaskFailure};

use crate::error::ClientError;
use crate::task::context::TaskContext;
use crate::wire::{Command, TaskRequest};

/// The result of an attempt of a task.
pub type TaskResult = Result<Payload, TaskFailure>;

/// Code around what workers and clients do: logging, measuring, authorisation, a tenant's database connection. Each
/// method gets what is about to happen, and [`next`](Next), a future: awaiting it is what the layers inside and then
/// Partitura do; dropped, nothing is done.
///
/// Set by [`Builder::layer`](crate::Builder::layer) for all that a connection does, and by
/// [`Worker::layer`](crate::Worker::layer) for the tasks and turns of one worker. The first that is set is the
/// outermost one; those of the connection are around those of its workers. Without layers nothing is spent on them.
///
/// A log of all attempts:
///
/// ```
/// use std::time::Instant;
/// use partitura_engine::{Layer, Next, TaskCall, TaskResult};
///
/// struct Log;
///
/// impl Layer for Log {
///     async fn task(&self, call: &TaskCall<'_>, next: Next<'_, TaskResult>) -> TaskResult {
///         let began = Instant::now();
///         let result = next.await;
///         let (service, method, attempt) = (call.service(), call.method(), call.context().attempt());
///         println!("{service}.{method}, attempt {attempt}: {} in {:?}", result.is_ok(), began.elapsed());
///         result
///     }
/// }
///
/// # async fn example(partitura: partitura_engine::Partitura) {
/// let worker = partitura.worker().layer(Log);
/// # }
/// ```
///
/// Authorisation of a client's requests, and of tasks:
///
/// ```
/// use partitura_engine::{ClientCall, ClientError, Layer, Next, TaskCall, TaskResult};
///
/// struct ReadOnly;
///
/// impl Layer for ReadOnly {
///     async fn request(
///         &self,
///         call: &ClientCall<'_>,
///         next: Next<'_, Result<(), ClientError>>,
///     ) -> Result<(), ClientError> {
///         match call.is_question() {
///             true => next.await,
///             false => Err(ClientError::Refused(format!("{} {}: you may only look", call.name(), call.id()))),
///         }
///     }
///
///     async fn task(&self, call: &TaskCall<'_>, next: Next<'_, TaskResult>) -> TaskResult {
///         match call.context().workflow() {
///             "Checkout" => next.await,
///             workflow => call.refuse(format!("{workflow} may not call {}", call.service())),
///         }
///     }
/// }
/// ```
///
/// # Cancel safety
/// The futures of layers are dropped with what they are around: at a time-out, say, or when a worker is stopped.
pub trait Layer: Send + Sync + 'static {
    /// Around one attempt of a task, in the worker that runs it; in a [batch](TaskContext::batch) around the wait of
    /// each call for its own result. [`TaskContext::current`] is that of the attempt. A layer may end the attempt
    /// without the method, by [`TaskCall::refuse`] or another failure, which counts as the method's own would. Its
    /// panics count as those of the method.
    fn task(&self, call: &TaskCall<'_>, next: Next<'_, TaskResult>) -> impl Future<Output = TaskResult> + Send {
        let _ = call;
        next
    }

    /// Around one turn of an instance: from the commands that have come for it to the commit of what its code has
    /// decided. A turn that is not let through is taken again after a pause, for ever: instances never lose what was
    /// sent to them. One that has begun is taken to its end, also if `next` is dropped meanwhile.
    fn turn(&self, turn: &TurnCall<'_>, next: Next<'_, TurnResult>) -> impl Future<Output = TurnResult> + Send {
        let _ = turn;
        next
    }

    /// Around the sending of a client's request: a start, a signal, an update, a cancellation, a query, a list. Not
    /// here comes what clients read and write in the store: searches, and the pauses of workflows and services.
    fn request(
        &self,
        call: &ClientCall<'_>,
        next: Next<'_, Result<(), ClientError>>,
    ) -> impl Future<Output = Result<(), ClientError>> + Send {
        let _ = call;
        next
    }
}

/// The thing that a layer is around: it happens when this is awaited, and not at all if this is dropped.
#[must_use = "nothing happens before this is awaited"]
pub struct Next<'a, T>(BoxFuture<'a, T>);

impl<T> Future for Next<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        self.0.as_mut().poll(context)
    }
}

impl<T> fmt::Debug for Next<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Next")
    }
}

/// An attempt of a task that is about to run.
#[derive(Debug)]
pub struct TaskCall<'a> {
    request: &'a TaskRequest,
    context: &'a TaskContext,
}

impl TaskCall<'_> {
    /// The service's name.
    pub fn service(&self) -> &str {
        &self.request.service
    }

    /// The method's name.
    pub fn method(&self) -> &str {
        &self.request.method
    }

    /// The arguments: an object by argument name.
    pub fn arguments(&self) -> &Payload {
        &self.request.args
    }

    /// The context of the method itself: the attempt, the workflow, the idempotency key.
    pub fn context(&self) -> &TaskContext {
        self.context
    }

    /// The answer of a layer that does not let the task run: its workflow gets
    /// [`TaskError::Unknown`](partitura_workflow::TaskError::Unknown) with this message. It is final.
    ///
    /// # Errors
    /// Always.
    pub fn refuse(&self, message: impl Into<String>) -> TaskResult {
        Err(Failure::new(FailureKind::Unknown, message).into())
    }
}

/// A turn of an instance that is about to be taken.
#[derive(Debug)]
pub struct TurnCall<'a> {
    pub(crate) workflow: &'a str,
    pub(crate) id: &'a str,
    pub(crate) commands: usize,
    pub(crate) attempt: u32,
}

impl TurnCall<'_> {
    /// The workflow's name.
    pub fn workflow(&self) -> &str {
        self.workflow
    }

    /// The instance's id.
    pub fn id(&self) -> &str {
        self.id
    }

    /// How many commands it takes together.
    pub fn commands(&self) -> usize {
        self.commands
    }

    /// From 1: those that came before were not committed.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }
}

/// The result of a turn. An error says why it is taken again.
pub type TurnResult = Result<(), String>;

/// A request that a client is about to send.
#[derive(Debug)]
pub struct ClientCall<'a> {
    pub(crate) to: (&'a str, &'a str),
    pub(crate) command: &'a Command,
}

impl ClientCall<'_> {
    /// The name of the workflow that it is sent to.
    pub fn workflow(&self) -> &str {
        self.to.0
    }

    /// The id of the instance that it is sent to. A list is sent to an id that is nobody's.
    pub fn id(&self) -> &str {
        self.to.1
    }

    /// Its kind, in a word: `start`, `signal`, `query`.
    pub fn name(&self) -> &'static str {
        match self.command {
            Command::Start(_) => "start",
            Command::Signal { .. } => "signal",
            Command::Update { .. } => "update",
            Command::Cancel { .. } => "cancel",
            Command::Terminate { .. } => "terminate",
            Command::Delete { .. } => "delete",
            Command::Pause { .. } => "pause",
            Command::GoOn { .. } | Command::Resume => "resume",
            Command::Reset { .. } => "reset",
            Command::Skip { .. } => "skip",
            Command::FireTimer { .. } => "fire timer",
            Command::TaskDone { .. } => "complete task",
            Command::Heartbeat { .. } => "heartbeat task",
            Command::Query { .. } => "query",
            Command::Await { .. } => "await",
            Command::Describe { .. } => "describe",
            Command::History { .. } => "history",
            Command::List { .. } => "list",
            _ => "other",
        }
    }

    /// Whether it only asks, and changes nothing.
    pub fn is_question(&self) -> bool {
        self.command.asker().is_some()
    }
}

/// As [`Layer`], with futures whose types are erased.
trait Erased: Send + Sync {
    fn task<'a>(&'a self, call: &'a TaskCall<'a>, next: Next<'a, TaskResult>) -> BoxFuture<'a, TaskResult>;
    fn turn<'a>(&'a self, turn: &'a TurnCall<'a>, next: Next<'a, TurnResult>) -> BoxFuture<'a, TurnResult>;
    fn request<'a>(
        &'a self,
        call: &'a ClientCall<'a>,
        next: Next<'a, Result<(), ClientError>>,
    ) -> BoxFuture<'a, Result<(), ClientError>>;
}

impl<L: Layer> Erased for L {
    fn task<'a>(&'a self, call: &'a TaskCall<'a>, next: Next<'a, TaskResult>) -> BoxFuture<'a, TaskResult> {
        Box::pin(Layer::task(self, call, next))
    }

    fn turn<'a>(&'a self, turn: &'a TurnCall<'a>, next: Next<'a, TurnResult>) -> BoxFuture<'a, TurnResult> {
        Box::pin(Layer::turn(self, turn, next))
    }

    fn request<'a>(
        &'a self,
        call: &'a ClientCall<'a>,
        next: Next<'a, Result<(), ClientError>>,
    ) -> BoxFuture<'a, Result<(), ClientError>> {
        Box::pin(Layer::request(self, call, next))
    }
}

/// Layers, the outermost first.
#[derive(Clone, Default)]
pub(crate) struct Layers(Vec<Arc<dyn Erased>>);

impl Layers {
    pub(crate) fn add(&mut self, layer: impl Layer) {
        self.0.push(Arc::new(layer));
    }

    /// These, and others inside of them.
    pub(crate) fn around(mut self, inner: Self) -> Self {
        self.0.extend(inner.0);
        self
    }

    pub(crate) async fn task(
        &self,
        (request, context): (&TaskRequest, &TaskContext),
        method: impl Future<Output = TaskResult> + Send,
    ) -> TaskResult {
        if self.0.is_empty() {
            return method.await;
        }
        let call = TaskCall { request, context };
        self.0.iter().rev().fold(Next(Box::pin(method)), |next, layer| Next(layer.task(&call, next))).await
    }

    pub(crate) async fn turn(&self, turn: &TurnCall<'_>, taken: impl Future<Output = TurnResult> + Send) -> TurnResult {
        self.0.iter().rev().fold(Next(Box::pin(taken)), |next, layer| Next(layer.turn(turn, next))).await
    }

    pub(crate) async fn request(
        &self,
        call: &ClientCall<'_>,
        sent: impl Future<Output = Result<(), ClientError>> + Send,
    ) -> Result<(), ClientError> {
        if self.0.is_empty() {
            return sent.await;
        }
        self.0.iter().rev().fold(Next(Box::pin(sent)), |next, layer| Next(layer.request(call, next))).await
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} layers", self.0.len())
    }
}

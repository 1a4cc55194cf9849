//! The actions of clients on an instance, and the answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use partitura::history::Event;
use partitura::{Client, ClientError, Signal, StartPolicy, Workflow, WorkflowError, WorkflowHandle};

use super::completing::{Decision, complete};
use super::deleted::is_deleted;
use super::expected::{Expected, Outcome, REASON};
use super::operating::{Operate, operated};
use crate::world::World;

/// The part of a world under one id.
pub(crate) struct Piece {
    pub(crate) id: String,
    pub(crate) workflow: &'static str,
    /// The expected end of a run, by its input and, where chance decides, by its history.
    pub(crate) model: Model,
    /// The actions of an operator on it.
    pub(crate) operate: Operate,
    /// The actions of clients, at the same time.
    pub(crate) parts: Vec<Part>,
}

/// The actions of one client.
pub(crate) struct Part {
    /// Starts the instance, acts on it, and waits for its end if the plan says so. If it begins again, for example
    /// after a crash, it uses the same id.
    pub(crate) perform: Box<dyn Fn(Client, World) -> Performance + Send + Sync>,
    /// The policy of the start.
    pub(crate) policy: StartPolicy,
    /// Whether the actions are idempotent, so that the client may crash between them.
    pub(crate) may_crash: bool,
}

pub(crate) type Performance = BoxFuture<'static, Result<Answered, String>>;

pub(crate) type Model = Arc<dyn Fn(&[Event]) -> Expected + Send + Sync>;

/// The answers that a client got.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) verdict: Verdict,
    /// The outcome, if it waited for it.
    pub(crate) outcome: Option<Outcome>,
}

/// The answer to a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accepted,
    /// There was this run.
    Exists(String),
}

/// A client's action on an instance, after a while.
pub(super) enum Act<W> {
    Signal(u64, Box<dyn Fn() -> Signal<W> + Send + Sync>),
    Cancel(u64),
    Terminate(u64),
    Complete(u64, Decision),
}

impl<W: Workflow> Act<W> {
    async fn perform(&self, of: (&Client, &World), handle: &WorkflowHandle<W>) -> Result<(), ClientError> {
        match self {
            Self::Signal(after, signal) => {
                pause(*after).await;
                handle.signal(signal()).await
            }
            Self::Cancel(after) => {
                pause(*after).await;
                handle.cancel(REASON).await
            }
            Self::Terminate(after) => {
                pause(*after).await;
                handle.terminate(REASON).await
            }
            Self::Complete(after, decision) => {
                pause(*after).await;
                complete(of, handle, decision).await;
                Ok(())
            }
        }
    }
}

pub(super) async fn pause(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

/// An instance of one client.
pub(super) fn piece<W: Workflow>(
    id: String,
    begin: u64,
    input: W::Input,
    acts: Vec<Act<W>>,
    model: impl Fn(&[Event]) -> Expected + Send + Sync + 'static,
) -> Piece
where
    W::Input: Clone + Sync,
{
    let name = id.clone();
    // A signal that is sent again is another signal.
    let may_crash = !acts.iter().any(|act| matches!(act, Act::Signal(..)));
    // The client's own record.
    let acts = Arc::new((acts, AtomicUsize::new(0)));
    let perform = move |client: Client, world: World| -> Performance {
        let (name, input, acts) = (name.clone(), input.clone(), acts.clone());
        Box::pin(async move {
            // A client that only waits leaves the delay to the broker. It does something else before it asks.
            let (paused, delayed, busy) = if acts.0.is_empty() { (0, 4 * begin, begin) } else { (begin, 0, 0) };
            pause(paused).await;
            let handle = client.workflow::<W>(name.clone());
            while let Err(error) = handle.start(input.clone()).after(Duration::from_millis(delayed)).await {
                world.lock().note("client", format_args!("starts {name} again: {error}"));
                pause(100).await;
            }
            // A client whose clock is ahead takes the start for due, and asks at once.
            if !world.lock().client_is_ahead(&name, delayed) {
                pause(busy).await;
            }
            let (acts, done) = &*acts;
            while let Some(act) = acts.get(done.load(Ordering::Relaxed)) {
                act.perform((&client, &world), &handle)
                    .await
                    .map_err(|error| format!("the client gave up on {name}: {error}"))?;
                done.fetch_add(1, Ordering::Relaxed);
            }
            Ok(Answered { verdict: Verdict::Accepted, outcome: outcome(&handle, &world).await? })
        })
    };
    let part = Part { perform: Box::new(perform), policy: StartPolicy::UseExisting, may_crash };
    let operate = operated::<W>(id.clone());
    Piece { id, workflow: W::NAME, model: Arc::new(model), operate, parts: vec![part] }
}

/// Waits for the end of the instance, or not. Waiting keeps an instance awake by asking, so a number of instances
/// are left alone.
pub(super) async fn outcome<W: Workflow>(handle: &WorkflowHandle<W>, world: &World) -> Result<Option<Outcome>, String> {
    if world.lock().random.coin() {
        return Ok(None);
    }
    loop {
        return Ok(Some(match handle.result_through_stops().await {
            Ok(result) => Outcome::ok(&result),
            Err(WorkflowError::Failed(error)) => Outcome::err(&error),
            Err(WorkflowError::Cancelled { reason, .. }) => Outcome::Cancelled(reason),
            Err(WorkflowError::Client(ClientError::NotFound { .. })) if is_deleted(world, handle) => return Ok(None),
            Err(WorkflowError::Client(ClientError::NotFound { .. })) => {
                return Err(format!("{} was started, and is not found", handle.id()));
            }
            Err(WorkflowError::Client(error)) => {
                world.lock().note("client", format_args!("asks for {} again: {error}", handle.id()));
                pause(100).await;
                continue;
            }
            Err(WorkflowError::Terminated(what) | WorkflowError::TimedOut(what) | WorkflowError::Unknown(what)) => {
                Outcome::Other(what)
            }
            Err(_) => Outcome::Other("an error of a newer engine".to_owned()),
        }));
    }
}

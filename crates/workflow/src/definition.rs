use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;

use crate::core::{Core, FitCheck};
use crate::saga::run_open_compensations;
use crate::{
    Answer, Cancelled, Cx, Failure, FailureKind, HandlerFuture, Payload, PayloadError, QueryError, Retry, Sleep,
    UpdateRefusal, Workflow,
};

/// A workflow's code, with its types erased: what a worker registers and an [`Execution`](crate::Execution) runs. There
/// may be several versions of it.
#[derive(Clone)]
pub struct Definition {
    name: &'static str,
    versions: BTreeMap<u32, Code>,
    fit_check: Option<FitCheck>,
}

/// The code of one version.
#[derive(Clone, Copy)]
struct Code {
    build: fn(&Arc<Core>) -> Built,
    retry: fn() -> Option<Retry>,
}

/// A new instance: its code, not yet polled, and its state.
pub(crate) type Built = (RootFuture, Box<dyn Instance>);

pub(crate) type RootFuture = BoxFuture<'static, Result<Payload, Failed>>;

/// How a run failed.
pub(crate) struct Failed {
    pub(crate) failure: Failure,
    /// No other attempt is made, whatever the policy of the instance is.
    pub(crate) is_final: bool,
}

impl Failed {
    fn finally(failure: Failure) -> Self {
        Self { failure, is_final: true }
    }
}

/// The author's state behind one instance.
pub(crate) trait Instance: Send {
    fn begin_signal(&self, name: &str, payload: &Payload) -> Result<Option<HandlerFuture>, PayloadError>;
    fn begin_update(&self, name: &str, args: &Payload) -> Result<Option<HandlerFuture>, PayloadError>;
    fn signal(&self, name: &str, payload: &Payload) -> Result<bool, PayloadError>;
    fn check_update(&self, name: &str, args: &Payload) -> Result<(), UpdateRefusal>;
    fn update(&self, name: &str, args: &Payload) -> Result<Answer, UpdateRefusal>;
    fn query(&self, name: &str, args: &Payload) -> Result<Payload, QueryError>;
}

impl Definition {
    /// The definition of `W`.
    pub fn for_workflow<W: Workflow>() -> Self {
        let code = Code { build: build::<W>, retry: W::retry };
        Self { name: W::NAME, versions: [(W::VERSION, code)].into(), fit_check: None }
    }

    /// Has instances refuse to send what does not fit. Without this everything does.
    #[must_use]
    pub fn with_fit_check(self, check: FitCheck) -> Self {
        Self { fit_check: Some(check), ..self }
    }

    pub(crate) fn fit_check(&self) -> Option<FitCheck> {
        self.fit_check.clone()
    }

    /// The workflow's name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its versions, in ascending order. There is one at least.
    pub fn versions(&self) -> Vec<u32> {
        self.versions.keys().copied().collect()
    }

    /// The version with which new instances live.
    pub fn newest(&self) -> u32 {
        self.versions.last_key_value().map_or(1, |(version, _)| *version)
    }

    /// Adds the versions of another definition of the same workflow. `false`: one of them is there already.
    pub fn add(&mut self, other: Self) -> bool {
        let is_new = other.versions.keys().all(|version| !self.versions.contains_key(version));
        self.versions.extend(other.versions);
        is_new
    }

    /// When a run of the newest version that fails is tried again, unless the start says otherwise.
    pub fn retry(&self) -> Option<Retry> {
        self.versions.last_key_value().and_then(|(_, code)| (code.retry)())
    }

    /// The version that a run lives with. `None`: it is not one of these.
    pub(crate) fn build(&self, core: &Arc<Core>) -> Option<Built> {
        self.versions.get(&core.started.version).map(|code| (code.build)(core))
    }
}

impl fmt::Debug for Definition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Definition").field(&self.name).field(&self.versions()).finish()
    }
}

fn build<W: Workflow>(core: &Arc<Core>) -> Built {
    let state = Arc::new(Mutex::new(W::default()));
    let cx = Cx::<W>::new(Arc::clone(core), Arc::clone(&state));
    (Box::pin(root(cx.clone())), Box::new(Typed { cx, state }))
}

/// `run`, then the compensations if it failed. Another attempt waits before it.
async fn root<W: Workflow>(cx: Cx<W>) -> Result<Payload, Failed> {
    let core = Arc::clone(cx.core());
    let input = core.started.input.decode().map_err(|error| {
        let problem = format!("the input of workflow {}: {error}", W::NAME);
        core.lock().unread_input = Some(problem.clone());
        Failed::finally(Failure::new(FailureKind::Unknown, problem))
    })?;
    if let Some(at) = core.started.begins_at() {
        let cancelled = |error: Cancelled| Failed::finally(Failure::new(FailureKind::Cancelled, error.to_string()));
        Sleep::until(&core, at).await.map_err(cancelled)?;
    }
    let returned = W::run(cx, input).await;
    match returned {
        Ok(output) => Payload::encode(&output).map_err(|error| {
            let problem = format!("the result of workflow {}: {error}", W::NAME);
            Failed::finally(Failure::new(FailureKind::Unknown, problem))
        }),
        Err(error) => {
            let mut failure = Failure::application(&error, W::describe(&error));
            failure.compensations = run_open_compensations(&core).await;
            // A failed compensation is for people to see.
            let is_final = !failure.compensations.is_empty() || !W::is_retried(&error);
            Err(Failed { failure, is_final })
        }
    }
}

struct Typed<W> {
    cx: Cx<W>,
    state: Arc<Mutex<W>>,
}

impl<W> Typed<W> {
    fn lock(&self) -> MutexGuard<'_, W> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: Workflow> Instance for Typed<W> {
    fn begin_signal(&self, name: &str, payload: &Payload) -> Result<Option<HandlerFuture>, PayloadError> {
        W::begin_signal(&self.cx, name, payload)
    }

    fn begin_update(&self, name: &str, args: &Payload) -> Result<Option<HandlerFuture>, PayloadError> {
        W::begin_update(&self.cx, name, args)
    }

    fn signal(&self, name: &str, payload: &Payload) -> Result<bool, PayloadError> {
        self.lock().signal(name, payload)
    }

    fn check_update(&self, name: &str, args: &Payload) -> Result<(), UpdateRefusal> {
        self.lock().check_update(name, args)
    }

    fn update(&self, name: &str, args: &Payload) -> Result<Answer, UpdateRefusal> {
        self.lock().update(name, args)
    }

    fn query(&self, name: &str, args: &Payload) -> Result<Payload, QueryError> {
        self.lock().query(name, args)
    }
}

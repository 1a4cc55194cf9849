use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::FutureExt;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::core::{Core, Leaf, SlotKind, StepFuture};
use crate::task::task_output;
use crate::{EventKind, Failure, FailureKind, Payload, TaskError};

/// An inline step, see [`Cx::step`](crate::Cx::step). Once it is dropped or cancelled, or the workflow has ended, its
/// result is ignored. Code that runs already is dropped, at its next await, where it runs in the worker that owns the
/// instance; elsewhere it runs on.
#[must_use = "a step does nothing until it is awaited or started"]
pub struct StepRun<T, E> {
    leaf: Leaf,
    pending: Option<(String, StepFuture)>,
    output: PhantomData<fn() -> Result<T, E>>,
}

impl<T, E> StepRun<T, E> {
    pub(crate) fn new<F>(core: &Arc<Core>, name: String, code: F) -> Self
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Serialize + DeserializeOwned,
        E: Serialize + DeserializeOwned + fmt::Debug,
    {
        let future = AssertUnwindSafe(code).catch_unwind().map(|outcome| match outcome {
            Ok(Ok(value)) => Payload::encode(&value).map_err(|e| Failure::new(FailureKind::Unknown, e.to_string())),
            Ok(Err(error)) => Err(Failure::application(&error, format!("{error:?}"))),
            Err(panic) => Err(Failure::panic(&*panic)),
        });
        Self { leaf: Leaf::claim(core), pending: Some((name, future.boxed())), output: PhantomData }
    }

    /// Begins the step now, to be awaited later.
    pub fn start(mut self) -> Self {
        self.issue();
        self.leaf.keep();
        self
    }

    fn issue(&mut self) {
        let Some((name, future)) = self.pending.take() else { return };
        self.leaf.issue(SlotKind::Step, |seq, state| {
            state.steps.insert(seq, (name.clone(), future));
            EventKind::StepScheduled { seq, name }
        });
    }
}

impl<T: DeserializeOwned, E: DeserializeOwned> Future for StepRun<T, E> {
    type Output = Result<T, TaskError<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.issue();
        Poll::Ready(task_output(&self.leaf, ready!(self.leaf.poll(cx))))
    }
}

impl<T, E> fmt::Debug for StepRun<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StepRun").field(&self.leaf).finish()
    }
}

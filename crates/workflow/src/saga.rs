use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use crate::core::{Compensation, CompensationFuture, Core};
use crate::{Failure, FailureKind};

/// A list of compensations, run newest first if the workflow fails. See [`Cx::saga`](crate::Cx::saga).
///
/// They are run when `run` returns `Err`, by `?` as well, before the instance ends; [`fail`](Saga::fail) runs them
/// right where it is called. When `run` returns `Ok` they are dropped. A compensation that fails does not keep the
/// others from running; its failure stands beside the workflow's own, in [`Failure::compensations`].
///
/// ```
/// # use partitura_workflow::{Cx, Task, Never, TaskError};
/// # fn reserve<W>(cx: &Cx<W>) -> Task<u32, Never> { unimplemented!() }
/// # fn release<W>(cx: &Cx<W>, seats: u32) -> Task<(), Never> { unimplemented!() }
/// # async fn example<W>(cx: Cx<W>) -> Result<(), TaskError<Never>> {
/// let mut saga = cx.saga();
/// let seats = reserve(&cx).await?;
/// saga.on_failure(release(&cx, seats));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Saga {
    core: Arc<Core>,
    id: u64,
}

impl Saga {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        let id = core.enter().ticket();
        Self { core, id }
    }

    /// Adds what undoes what was just done: any future of a `Result`. It is lazy; nothing happens before a failure.
    /// Once it runs, it runs to its end: the workflow's cancellation does not reach it.
    pub fn on_failure<F, T, E>(&mut self, undo: F)
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        E: fmt::Debug,
    {
        let future: CompensationFuture = Box::pin(async move {
            match undo.await {
                Ok(_) => Ok(()),
                Err(error) => Err(Failure::new(FailureKind::Application, format!("{error:?}"))),
            }
        });
        self.core.enter().compensations.push(Compensation { saga: self.id, future });
    }

    /// Runs the compensations of this saga, newest first, and hands back the error: `return saga.fail(error).await`.
    ///
    /// # Errors
    /// Always `error`.
    ///
    /// # Cancel safety
    /// Dropped, the compensations that have not ended go on when the workflow's `run` returns an error.
    pub async fn fail<T, E>(self, error: E) -> Result<T, E> {
        while let Some(compensation) = newest(&self.core, Some(self.id)) {
            run(&self.core, compensation).await;
        }
        Err(error)
    }

    /// The saga has succeeded: forgets its compensations, whatever the workflow does later.
    pub fn complete(self) {
        let forgotten: Vec<Compensation> = {
            let mut state = self.core.enter();
            state.compensations.extract_if(.., |compensation| compensation.saga == self.id).collect()
        };
        drop(forgotten);
    }
}

/// Runs what is left of all sagas, newest first. Returns how compensations failed, these and earlier ones.
pub(crate) async fn run_open_compensations(core: &Core) -> Vec<Failure> {
    while let Some(compensation) = newest(core, None) {
        run(core, compensation).await;
    }
    std::mem::take(&mut core.lock().failed_compensations)
}

async fn run(core: &Core, compensation: Compensation) {
    Running { core, compensation: Some(compensation) }.await;
}

/// A compensation that runs, shielded.
struct Running<'a> {
    core: &'a Core,
    compensation: Option<Compensation>,
}

impl Future for Running<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let core = self.core;
        let Some(compensation) = &mut self.compensation else { return Poll::Ready(()) };
        let shield = core.shields_compensations().then(|| core.shield());
        let undone = ready!(compensation.future.as_mut().poll(cx));
        drop(shield);
        let ended = self.compensation.take();
        core.lock().failed_compensations.extend(undone.err());
        drop(ended);
        Poll::Ready(())
    }
}

/// The future that ran it is gone: it goes on if the workflow fails.
impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut state = self.core.lock();
        if self.core.shields_compensations() && !state.closing {
            state.compensations.extend(self.compensation.take());
        }
    }
}

fn newest(core: &Core, saga: Option<u64>) -> Option<Compensation> {
    let mut state = core.lock();
    let index = state.compensations.iter().rposition(|open| saga.is_none_or(|saga| saga == open.saga))?;
    Some(state.compensations.remove(index))
}

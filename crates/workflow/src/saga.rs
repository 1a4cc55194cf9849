use std::fmt;
use std::future::Future;
use std::sync::Arc;

use crate::core::{Compensation, CompensationFuture, Core};

/// A list of compensations, run newest first if the workflow fails. See [`Cx::saga`](crate::Cx::saga).
///
/// They are run when `run` returns `Err`, by `?` as well, before the instance ends; [`fail`](Saga::fail) runs them right where it is called.
/// When `run` returns `Ok` they are dropped. A compensation that fails does not keep the others from running; its error is added
/// to the message of the workflow's failure.
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
    pub fn on_failure<F, T, E>(&mut self, undo: F)
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        E: fmt::Debug,
    {
        let future: CompensationFuture = Box::pin(async move {
            match undo.await {
                Ok(_) => Ok(()),
                Err(error) => Err(format!("{error:?}")),
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
    /// Dropped, the compensations that have not begun are run when the workflow's `run` returns an error.
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
pub(crate) async fn run_open_compensations(core: &Core) -> Vec<String> {
    while let Some(compensation) = newest(core, None) {
        run(core, compensation).await;
    }
    std::mem::take(&mut core.lock().failed_compensations)
}

async fn run(core: &Core, compensation: Compensation) {
    if let Err(failed) = compensation.future.await {
        core.lock().failed_compensations.push(failed);
    }
}

fn newest(core: &Core, saga: Option<u64>) -> Option<Compensation> {
    let mut state = core.lock();
    let index = state.compensations.iter().rposition(|open| saga.is_none_or(|saga| saga == open.saga))?;
    Some(state.compensations.remove(index))
}

//! Workflows and services that several tests use.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use partitura::{Cancelled, Cx, Retry, TaskError, millis};
use serde::{Deserialize, Serialize};

/// Far longer than anything here takes; only a hang reaches it.
pub(crate) const LIVENESS: Duration = Duration::from_secs(60);

/// Awaits with a limit that only a hang reaches.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(LIVENESS, future).await.expect("it hangs")
}

/// Asks until the answer is there; every question goes through the broker, so this does not spin.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(mut ask: impl FnMut() -> F) -> T {
    soon(async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum Oops {
    #[error("no: {0}")]
    No(String),
    #[error("busy")]
    Busy,
    #[error("a task failed: {0}")]
    Task(String),
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl Oops {
    pub(crate) fn is_transient(&self) -> bool {
        *self == Self::Busy
    }
}

impl<E: std::fmt::Display> From<TaskError<E>> for Oops {
    fn from(error: TaskError<E>) -> Self {
        Self::Task(error.to_string())
    }
}

#[partitura::service]
pub(crate) trait Text {
    /// Appends a dot.
    async fn dot(&self, text: String) -> String;
    /// Fails with `Oops::No`.
    async fn refuse(&self, text: String) -> Result<String, Oops>;
    /// `Oops::Busy` until the attempt of this number.
    #[task(retry = Retry::fixed(millis(1)).max_attempts(5), retry_if = Oops::is_transient)]
    async fn busy_until(&self, attempt: u32) -> Result<u32, Oops>;
    /// Panics until the attempt of this number.
    async fn panic_until(&self, attempt: u32) -> Result<u32, Oops>;
    /// Never returns by itself; counts that it was called.
    async fn hang(&self) -> Result<(), Oops>;
    /// Notes what it was called with.
    async fn note(&self, text: String) -> Result<(), Oops>;
}

/// The implementation of [`Text`], with what tests look at.
#[derive(Debug, Default, Clone)]
pub(crate) struct Texts {
    pub(crate) hanging: Arc<AtomicU32>,
    pub(crate) notes: Arc<std::sync::Mutex<Vec<String>>>,
}

fn attempt() -> u32 {
    partitura::TaskContext::current().expect("inside of a task").attempt()
}

impl Text for Texts {
    async fn dot(&self, text: String) -> String {
        text + "."
    }

    async fn refuse(&self, text: String) -> Result<String, Oops> {
        Err(Oops::No(text))
    }

    async fn busy_until(&self, until: u32) -> Result<u32, Oops> {
        if attempt() < until { Err(Oops::Busy) } else { Ok(attempt()) }
    }

    async fn panic_until(&self, until: u32) -> Result<u32, Oops> {
        assert!(attempt() >= until, "attempt {}", attempt());
        Ok(attempt())
    }

    async fn hang(&self) -> Result<(), Oops> {
        self.hanging.fetch_add(1, Ordering::SeqCst);
        std::future::pending().await
    }

    async fn note(&self, text: String) -> Result<(), Oops> {
        self.notes.lock().expect("notes").push(text);
        Ok(())
    }
}

/// Three tasks, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Three;

#[partitura::workflow]
impl Three {
    #[run]
    async fn run(cx: Cx<Self>, text: String) -> Result<String, Oops> {
        let texts = cx.service::<TextStub>();
        let text = texts.dot(text).await?;
        let text = texts.dot(text).await?;
        Ok(texts.dot(text).await?)
    }
}

/// Waits for a signal that says how it ends.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    released: Option<String>,
}

#[partitura::workflow]
impl Waits {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<String, Oops> {
        cx.until(|waits: &Waits| waits.released.is_some()).await?;
        Ok(cx.state(|waits| waits.released.take()).unwrap_or_default())
    }

    #[signal]
    fn release(&mut self, with: String) {
        self.released = Some(with);
    }

    #[query]
    fn is_released(&self) -> bool {
        self.released.is_some()
    }
}

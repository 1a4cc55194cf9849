//! An answer that takes long, for a page that is shown often.
//!
//! Reading dead letters takes some brokers seconds, and only one process reads at a time; and workers are asked what
//! instances wait for. So the answer is read in the background, once in a while, and only if somebody looks.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// For how long an answer is shown before it is read again.
const SHOWN: Duration = Duration::from_secs(30);
/// How long the first visitor waits for it.
const FIRST: Duration = Duration::from_secs(1);

/// An answer, as last read. Cheap to clone.
#[derive(Debug)]
pub(crate) struct Remembered<T>(Arc<Mutex<State<T>>>);

#[derive(Debug)]
struct State<T> {
    answer: Option<T>,
    begun: Option<Instant>,
}

impl<T> Default for Remembered<T> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State { answer: None, begun: None })))
    }
}

impl<T> Clone for Remembered<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Clone + Send + 'static> Remembered<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer. `None`: it is not known yet. A question without an answer is asked again later.
    pub(crate) async fn read(&self, ask: impl Future<Output = Option<T>> + Send + 'static) -> Option<T> {
        let is_due = {
            let mut state = self.lock();
            let is_due = state.begun.is_none_or(|begun| begun.elapsed() >= SHOWN);
            if is_due {
                state.begun = Some(Instant::now());
            }
            is_due
        };
        if is_due {
            let remembered = self.clone();
            let reading = tokio::spawn(async move {
                if let Some(answer) = ask.await {
                    remembered.lock().answer = Some(answer);
                }
            });
            if self.lock().answer.is_none() {
                // The page comes without it then.
                drop(tokio::time::timeout(FIRST, reading).await);
            }
        }
        self.lock().answer.clone()
    }

    /// Has it read again for the next visitor.
    pub(crate) fn forget(&self) {
        let mut state = self.lock();
        (state.answer, state.begun) = (None, None);
    }
}

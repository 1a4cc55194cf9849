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
const FIRST: Duration = Duration::from_millis(100);
/// For how long an answer is shared: at least and at most, and as many times as long as it took to be read.
const SHARED: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
const TIMES: u32 = 10;

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

    /// The answer, as far as it is known. Nothing is asked.
    pub(crate) fn known(&self) -> Option<T> {
        self.lock().answer.clone()
    }
}

/// An answer that all visitors share for a moment: of those who ask at once one has it read, and the others wait for
/// that. However many look, a store spends a tenth of its time on it at most.
#[derive(Debug)]
pub(crate) struct Recent<T>(tokio::sync::Mutex<Option<Read<T>>>);

#[derive(Debug)]
struct Read<T> {
    answer: T,
    shared_until: Instant,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self(tokio::sync::Mutex::new(None))
    }
}

impl<T: Clone> Recent<T> {
    /// The answer. An error is not shared.
    pub(crate) async fn read<E>(&self, ask: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let mut last = self.0.lock().await;
        if let Some(read) = last.as_ref().filter(|read| Instant::now() < read.shared_until) {
            return Ok(read.answer.clone());
        }
        let begun = Instant::now();
        let answer = ask.await?;
        let shared_for = (begun.elapsed() * TIMES).clamp(SHARED, LONGEST);
        *last = Some(Read { answer: answer.clone(), shared_until: Instant::now() + shared_for });
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn visitors_who_ask_at_once_share_one_answer_and_a_slow_one_for_longer() {
        let (recent, asked) = (Recent::default(), AtomicU32::new(0));
        let read = async |takes: Duration| {
            let ask = async {
                let number = asked.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(takes).await;
                Ok::<_, Infallible>(number)
            };
            let Ok(answer) = recent.read(ask).await;
            answer
        };
        let at_once = futures::future::join_all((0..50).map(|_| read(Duration::from_millis(5)))).await;
        assert_eq!(at_once, [0; 50]);
        tokio::time::advance(SHARED).await;
        assert_eq!(read(Duration::from_secs(1)).await, 1);
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(read(Duration::from_secs(1)).await, 1);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(read(Duration::from_secs(1)).await, 2);
    }

    #[tokio::test]
    async fn an_error_is_not_shared() {
        let recent = Recent::default();
        assert_eq!(recent.read(async { Err::<u32, _>("no") }).await, Err("no"));
        assert_eq!(recent.read(async { Ok::<_, &str>(1) }).await, Ok(1));
    }
}

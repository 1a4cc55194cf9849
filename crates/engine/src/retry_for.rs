//! Doing again what may succeed a little later: brokers and stores are started, crash and move while we run.

use std::future::Future;
use std::time::Duration;

use partitura_broker::Result;
use tokio::time::Instant;

use crate::pause::Pause;

/// Tries until it succeeds, until it fails for good, or until `limit` has passed: then it gives the last failure.
///
/// # Errors
/// The last failure of `attempt`.
///
/// # Cancel safety
/// As safe as `attempt`.
pub async fn retry_for<T, F>(limit: Duration, what: &str, mut attempt: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    // A limit that the clock does not reach is none.
    let give_up = Instant::now().checked_add(limit);
    let mut pause = Pause::new();
    loop {
        match attempt().await {
            Err(error) if error.is_retryable() && give_up.is_none_or(|end| Instant::now() + pause.length() < end) => {
                tracing::info!(%error, ?pause, "to {what} is tried again");
                pause.wait().await;
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use partitura_broker::{Error, ErrorKind};

    use super::*;

    fn failure(kind: ErrorKind) -> Result<u32> {
        Err(Error::new(kind, "test", "for the test"))
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_pass_is_waited_out_and_what_may_not_is_told_at_once() {
        let mut failures = vec![ErrorKind::Timeout, ErrorKind::Disconnected];
        let later = || {
            let result = failures.pop().map_or(Ok(7), failure);
            async move { result }
        };
        assert_eq!(retry_for(Duration::from_secs(1), "test", later).await.expect("the third attempt"), 7);

        let mut attempts = 0;
        let never = || {
            attempts += 1;
            async { failure(ErrorKind::Unauthorized) }
        };
        let error = retry_for(Duration::from_secs(1), "test", never).await.expect_err("final");
        assert_eq!((error.kind(), attempts), (ErrorKind::Unauthorized, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn patience_without_an_end_waits_on() {
        let began = Instant::now();
        let day = Duration::from_secs(86_400);
        let later = || async move { if began.elapsed() < day { failure(ErrorKind::Timeout) } else { Ok(7) } };
        assert_eq!(retry_for(Duration::MAX, "test", later).await.expect("the next day"), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn patience_has_an_end() {
        let began = Instant::now();
        let error = retry_for(Duration::from_secs(60), "test", || async { failure(ErrorKind::Timeout) })
            .await
            .expect_err("late");
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(began.elapsed() <= Duration::from_secs(60));
    }
}

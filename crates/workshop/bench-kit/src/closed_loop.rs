use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::Latencies;

/// The measurements of a closed loop.
#[derive(Debug, Clone)]
pub struct Timed {
    /// From the first request to the last answer.
    pub took: Duration,
    /// The result of each request.
    pub latencies: Latencies,
}

/// Keeps `in_flight` requests going until `n` are done. `request` gets the request's number, from 0, and returns its
/// latency.
///
/// # Errors
/// The first request that failed. The requests in flight beside it are abandoned.
///
/// # Cancel safety
/// Dropping the future abandons the requests in flight, at their next await.
pub async fn closed_loop<F, Fut, E>(in_flight: usize, n: usize, request: F) -> Result<Timed, E>
where
    F: Fn(usize) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<Duration, E>> + Send,
    E: Send + 'static,
{
    let next = Arc::new(AtomicUsize::new(0));
    let begun = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..in_flight {
        let (next, request) = (Arc::clone(&next), request.clone());
        clients.spawn(async move {
            let mut latencies = Vec::with_capacity(n / in_flight + 1);
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= n {
                    return Ok(latencies);
                }
                latencies.push(request(number).await?);
            }
        });
    }
    let mut all = Vec::with_capacity(n);
    while let Some(joined) = clients.join_next().await {
        match joined {
            Ok(latencies) => all.extend(latencies?),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    Ok(Timed { took: begun.elapsed(), latencies: Latencies::new(all) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_request_runs_once_and_never_too_many_at_a_time() {
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let peak = Arc::clone(&most);
        let timed = closed_loop(3, 20, move |number| {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            async move {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                running.fetch_sub(1, Ordering::SeqCst);
                Ok::<_, String>(Duration::from_millis(number as u64))
            }
        })
        .await
        .expect("no request fails");
        assert_eq!(timed.latencies.len(), 20);
        assert_eq!(timed.latencies.percentile_ms(1.0), 19.0);
        assert_eq!(peak.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn a_failed_request_ends_the_loop() {
        let outcome = closed_loop(2, 1_000_000, |number| async move {
            if number == 5 { Err("request 5 failed") } else { Ok(Duration::ZERO) }
        });
        assert_eq!(outcome.await.err(), Some("request 5 failed"));
    }
}

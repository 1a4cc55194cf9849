//! Delayed messages. A message that is not due has a row without a place in its line; `take` in `schema.sql` gives it
//! one when it is due. Here is the other end of a delay: its cancellation.

use std::time::Duration;

use partitura_broker::{Delayed, Error, Result};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use crate::publish_queue::{MAX_ROWS, Placed, PublishQueue};
use crate::wire::DelayedRow;
use crate::{error, wire};

/// The largest delay.
pub(crate) const MAX_DELAY: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// How late the 99th percentile of delayed messages is with little load.
pub(crate) const LATENESS: Duration = Duration::from_millis(100);

const CANCEL: &str = "cancel";

/// Cancels delayed messages: deletes their rows. Returns whether each of them was still waiting.
pub(crate) async fn cancel(
    queue: &Mutex<PublishQueue>,
    delayed: &[Delayed],
    within: Duration,
) -> Result<Vec<Result<bool>>> {
    let deadline = Instant::now() + within;
    let mut queue = queue.lock().await;
    let session = queue.session(CANCEL).await?;
    let (mut results, mut rows, mut places) = (Vec::with_capacity(delayed.len()), Vec::new(), Vec::new());
    for (at, delayed) in delayed.iter().enumerate() {
        let partition = queue.partition(&session, CANCEL, &Placed::from(delayed)).await;
        results.push(partition.map(|partition| {
            rows.push(DelayedRow { partition, delayed });
            places.push(at);
            false
        }));
    }
    let answers: Vec<_> = rows.chunks(MAX_ROWS).map(|part| session.ask(CANCEL, wire::cancel(part))).collect();
    drop(queue);
    for (answer, part) in answers.into_iter().zip(places.chunks(MAX_ROWS)) {
        let rows = timeout_at(deadline, answer.arrive()).await.unwrap_or_else(|_| Err(error::timed_out(CANCEL)));
        let rows = rows.and_then(|rows| wire::cancelled(&rows).map_err(|source| error::classify(CANCEL, source)));
        let cancelled = rows.map_err(|failed| error::outcome_unknown(CANCEL, failed));
        for (i, at) in part.iter().enumerate() {
            results[*at] = cancelled.as_ref().map(|cancelled| cancelled.contains(&i)).map_err(Error::duplicate);
        }
    }
    Ok(results)
}

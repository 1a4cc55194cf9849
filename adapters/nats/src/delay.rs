//! Delay, by the server's own message schedules.
//!
//! A message that is not due yet is stored on a subject of its own, with a moment and the subject to publish it to. The server
//! moves it there some milliseconds after that moment, and gives those of one tick a place in the stream as they were
//! published. So the moment that it is told lies a little before the one that is meant ([`LEAD`]). The consumer holds back
//! what came early until it is due, and gives it out in the order of the times:
//! [`Claims::clock`](partitura_adapter_kit::Claims::clock).

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::header::{NATS_SCHEDULE, NATS_SCHEDULE_TARGET};
use partitura_broker::Timestamp;

/// How long before it is due a message is passed on: several of the server's ticks. What is due sooner does not wait there.
pub(crate) const LEAD: Duration = Duration::from_millis(250);

/// Adds what makes the server hold the message back until shortly before `due`, and publish it to `target` then.
pub(crate) fn hold_back(headers: &mut HeaderMap, due: Timestamp, target: &str) {
    headers.insert(NATS_SCHEDULE, format!("@at {}", passed_on(due)));
    headers.insert(NATS_SCHEDULE_TARGET, target);
}

/// When the server passes on what is due at a moment.
pub(crate) fn passed_on(due: Timestamp) -> Timestamp {
    let lead = u64::try_from(LEAD.as_millis()).unwrap_or(u64::MAX);
    Timestamp::from_millis(due.as_millis().saturating_sub(lead))
}

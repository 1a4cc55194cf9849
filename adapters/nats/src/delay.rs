//! Delay, by the server's own message schedules.
//!
//! A message that is not due yet is stored on a subject of its own, with a moment and the subject to publish it to. The
//! server moves it there some milliseconds after that moment, and gives the messages of one tick a place in the stream
//! in the order in which they were published. So the moment that the server gets is a little before the due time
//! ([`LEAD`]). The consumer holds back messages that come early until they are due, and gives them out in the order of
//! their due times: [`Claims::clock`](partitura_adapter_kit::Claims::clock).
//!
//! To cancel a message is to purge its subject: the server answers with the number of messages that it removed. The
//! server takes a message up shortly before it is due, and stores it on its target a little later, without checking
//! whether it was purged in between. So a message that is about to be taken up is left alone. A purge counts only if
//! the message cannot have been taken up before it: by the server's own clock, unless the moment is far away by ours.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::header::{NATS_SCHEDULE, NATS_SCHEDULE_TARGET};
use futures::stream::{self, StreamExt};
use partitura_broker::{Clock, Delayed, Error, ErrorKind, Result, Timestamp};
use serde::Deserialize;
use serde_json::json;

use crate::client::Connection;
use crate::core::Core;
use crate::{error, names};

/// The largest delay.
pub(crate) const MAX_DELAY: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);
/// How late the 99th percentile of delayed messages is with little load.
pub(crate) const LATENESS: Duration = Duration::from_millis(100);
/// The time before it is due at which the server passes a message on: several of the server's ticks. A message that is
/// due sooner does not wait at the server.
pub(crate) const LEAD: Duration = Duration::from_millis(250);

const CANCEL: &str = "cancel";

/// The number of requests that are under way at once.
const CONCURRENT_REQUESTS: usize = 32;
/// A message that is taken up within this time cannot be cancelled: more than the time that a purge takes.
const CANCEL_MARGIN: Duration = Duration::from_millis(250);
/// The largest difference of the server's clock and ours that is assumed without asking the server.
const MAX_SKEW: Duration = Duration::from_secs(10);

/// Adds the headers by which the server holds the message back until shortly before `due`, and publishes it to `target`
/// then.
pub(crate) fn hold_back(headers: &mut HeaderMap, due: Timestamp, target: &str) {
    headers.insert(NATS_SCHEDULE, format!("@at {}", taken_up_at(due)));
    headers.insert(NATS_SCHEDULE_TARGET, target);
}

/// The moment at which the server passes on a message that is due at `due`.
fn taken_up_at(due: Timestamp) -> Timestamp {
    let lead = u64::try_from(LEAD.as_millis()).unwrap_or(u64::MAX);
    Timestamp::from_millis(due.as_millis().saturating_sub(lead))
}

/// Cancels delayed messages. Returns whether each of them was still waiting.
pub(crate) async fn cancel(core: &Core, delayed: Vec<Delayed>) -> Vec<Result<bool>> {
    let connection = match core.publishing.connection(CANCEL).await {
        Ok(connection) => connection,
        Err(error) => return delayed.iter().map(|delayed| Err(error.duplicate().of(&delayed.topic))).collect(),
    };
    let cancelling = stream::iter(delayed).map(|delayed| cancel_one(core, &connection, delayed));
    cancelling.buffered(CONCURRENT_REQUESTS).collect().await
}

#[derive(Deserialize)]
struct Purged {
    purged: u64,
}

/// The server's clock, from its description of a stream.
#[derive(Deserialize)]
struct ServerTime {
    ts: String,
}

async fn cancel_one(core: &Core, connection: &Connection, delayed: Delayed) -> Result<bool> {
    let Delayed { topic, key, id, not_before: due } = &delayed;
    let known = core.topics.get(connection, CANCEL, topic).await?;
    let taken_up = taken_up_at(*due);
    if taken_up <= core.clock.now() + CANCEL_MARGIN {
        return Ok(false);
    }
    let partition = known.partition(key.as_ref(), id);
    let waits_on = names::schedule(&known.subjects[partition.0 as usize], id);
    let purge = format!("STREAM.PURGE.{}", known.stream);
    let purged = connection.ask::<Purged>(CANCEL, topic, purge, &json!({ "filter": waits_on })).await;
    let purged = purged.map_err(unknown)?.map_err(|e| error::refused(CANCEL, topic, e))?;
    if purged.purged == 0 {
        return Ok(false);
    }
    if taken_up > core.clock.now() + MAX_SKEW {
        return Ok(true);
    }
    let info = format!("STREAM.INFO.{}", known.stream);
    let time = connection.ask::<ServerTime>(CANCEL, topic, info, &json!({})).await.map_err(unknown)?;
    if is_before(&time.map_err(|e| unknown(error::refused(CANCEL, topic, e)))?.ts, taken_up) {
        return Ok(true);
    }
    let message = "it fell due while it was cancelled; cancel again, and take it for cancelled if it does not come";
    Err(Error::new(ErrorKind::OutcomeUnknown, CANCEL, message).of(topic))
}

/// The error of a request that may have been carried out.
fn unknown(error: Error) -> Error {
    let topic = error.subject().unwrap_or_default().to_owned();
    let message = "the server did not say whether it was cancelled; cancel again";
    Error::new(ErrorKind::OutcomeUnknown, CANCEL, message).of(topic).because(error)
}

/// Whether this moment, as the server writes it in UTC, is before another. They are compared as texts: both begin with
/// the same parts, of the same lengths. A millisecond is left for zeros at the end, which the server omits.
fn is_before(moment: &str, due: Timestamp) -> bool {
    let last = Timestamp::from_millis(due.as_millis().saturating_sub(1)).to_string();
    moment.ends_with('Z') && moment.trim_end_matches('Z') <= last.trim_end_matches('Z')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_clock_is_compared_to_the_millisecond() {
        // 2024-02-29T00:00:00.500Z
        let due = Timestamp::from_millis(1_709_164_800_500);
        for before in [
            "2024-02-29T00:00:00.498999999Z",
            "2024-02-29T00:00:00.4Z",
            "2024-02-29T00:00:00Z",
            "2023-12-31T23:59:59.9Z",
        ] {
            assert!(is_before(before, due), "{before}");
        }
        for after in [
            "2024-02-29T00:00:00.5Z",
            "2024-02-29T00:00:00.500000001Z",
            "2024-02-29T00:00:01Z",
            "2024-03-01T00:00:00Z",
            "2024-02-28T01:00:00+01:00",
        ] {
            assert!(!is_before(after, due), "{after}");
        }
    }
}

//! Taking back what is delayed: the subject on which it waits is purged, and the server says how many messages that took.
//!
//! The server takes a message up shortly before it is due, and stores it on its target a little later, without looking whether
//! it was purged in between. So what is about to be taken up is left alone, and a purge is believed only when the message cannot have
//! been taken up before it: by the server's own clock, unless the moment is far away by ours.

use std::time::Duration;

use futures::stream::{self, StreamExt};
use partitura_broker::{Clock, Delayed, Error, ErrorKind, Result, Timestamp};
use serde::Deserialize;
use serde_json::json;

use crate::link::Link;
use crate::nats::Core;
use crate::{delay, error, names, producer};

const CANCEL: &str = "cancel";

/// How many requests are under way at once.
const AT_ONCE: usize = 32;
/// What is taken up so soon counts as on its way: what it takes to purge it, and more.
const ON_ITS_WAY: Duration = Duration::from_millis(250);
/// By how much the server's clock may be ahead of ours without being asked.
const SKEW: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
struct Purged {
    purged: u64,
}

/// The server's clock, as it stands in what it says of a stream.
#[derive(Deserialize)]
struct Told {
    ts: String,
}

pub(crate) async fn all(core: &Core, delayed: Vec<Delayed>) -> Vec<Result<bool>> {
    let link = match core.publishing.link(CANCEL).await {
        Ok(link) => link,
        Err(error) => return delayed.iter().map(|delayed| Err(error.duplicate().of(&delayed.topic))).collect(),
    };
    let link = &*link;
    stream::iter(delayed).map(|delayed| one(core, link, delayed)).buffered(AT_ONCE).collect().await
}

async fn one(core: &Core, link: &Link, delayed: Delayed) -> Result<bool> {
    let Delayed { topic, key, id, not_before: due } = &delayed;
    let known = core.topics.get(link, CANCEL, topic).await?;
    let taken_up = delay::passed_on(*due);
    if taken_up <= core.clock.now() + ON_ITS_WAY {
        return Ok(false);
    }
    let partition = producer::partition(&known, key.as_ref(), id);
    let waits = names::schedule(&known.subjects[partition.0 as usize], id);
    let purge = format!("STREAM.PURGE.{}", known.stream);
    let purged = link.ask::<Purged>(CANCEL, topic, purge, &json!({ "filter": waits })).await.map_err(unknown)?;
    if purged.map_err(|e| error::refused(CANCEL, topic, e))?.purged == 0 {
        return Ok(false);
    }
    if taken_up > core.clock.now() + SKEW {
        return Ok(true);
    }
    let info = format!("STREAM.INFO.{}", known.stream);
    let told = link.ask::<Told>(CANCEL, topic, info, &json!({})).await.map_err(unknown)?;
    if is_before(&told.map_err(|e| unknown(error::refused(CANCEL, topic, e)))?.ts, taken_up) {
        return Ok(true);
    }
    let message = "it fell due while it was cancelled; cancel again, and take it for cancelled if it does not come";
    Err(Error::new(ErrorKind::OutcomeUnknown, CANCEL, message).of(topic))
}

/// It may have been carried out.
fn unknown(error: Error) -> Error {
    let topic = error.subject().unwrap_or_default().to_owned();
    let message = "the server did not say whether it was cancelled; cancel again";
    Error::new(ErrorKind::OutcomeUnknown, CANCEL, message).of(topic).because(error)
}

/// Whether this moment, as the server writes it in UTC, lies before another. As text: both begin with the same parts, of the
/// same lengths; a millisecond is left for zeros at the end, which the server omits.
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

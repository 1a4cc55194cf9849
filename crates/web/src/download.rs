//! A whole history, written while it is sent.

use axum::body::{Body, Bytes};
use futures::stream;
use partitura_workflow::Event;

/// How many events are written at a time.
const CHUNK: usize = 500;

/// The events as JSON lines.
pub(crate) fn body(events: Vec<Event>) -> Body {
    let chunks = stream::unfold(events.into_iter(), |mut events| async move {
        let mut text = Vec::new();
        for event in events.by_ref().take(CHUNK) {
            if let Err(error) = serde_json::to_writer(&mut text, &event) {
                return Some((Err(error), events));
            }
            text.push(b'\n');
        }
        (!text.is_empty()).then(|| (Ok(Bytes::from(text)), events))
    });
    Body::from_stream(chunks)
}

//! The sizes that fit into one message, and how an answer that does not is cut into pages.

use std::sync::Arc;

use partitura_workflow::{Event, EventKind, FitCheck, TooLarge};

use crate::messaging::directory::Directory;
use crate::wire::summary::Summary;
use crate::wire::{Command, Payloads, ReplyBody, Request};

/// The bytes that the attempts of a task add to its message: a longer number, and the address of the process that runs
/// it.
pub(crate) const NEXT_ATTEMPT: usize = 512;

/// The bytes that the engine may add to an accepted command: run, time, message id, reply address.
const ENVELOPE: usize = 1_024;

/// How large a payload may be that is sent to an instance. The rest of a message is left free, so that it can be
/// recorded, published and answered.
pub(crate) fn limit(directory: &Directory, workflow: &str, id: &str) -> usize {
    // A quote or a backslash in a name takes two bytes in JSON.
    directory.payload_limit().saturating_sub(ENVELOPE + 2 * (workflow.len() + id.len()))
}

/// Says whether what a workflow sends and does not wait for fits.
pub(crate) fn fit_check(directory: Arc<Directory>) -> FitCheck {
    Arc::new(move |command| {
        let payloads = directory.payloads();
        let (workflow, id, bytes) = match command {
            EventKind::SignalSent { workflow, id, name, payload, .. } => {
                let (name, payload, request) = (name.clone(), payload.clone(), Request::default());
                (workflow, id, payloads.encode(&Command::Signal { name, payload, request }).len())
            }
            EventKind::ChildStarted { workflow, id, input, tags, .. } => {
                (workflow, id, payloads.encode(&(input, tags)).len())
            }
            _ => return Ok(()),
        };
        fits(bytes, limit(&directory, workflow, id))
    })
}

fn fits(bytes: usize, limit: usize) -> Result<(), TooLarge> {
    if bytes <= limit { Ok(()) } else { Err(TooLarge { bytes, limit }) }
}

/// Says why a payload of `bytes` bytes cannot be sent.
pub(crate) fn check(directory: &Directory, what: &str, bytes: usize) -> Result<(), String> {
    fits(bytes, directory.payload_limit()).map_err(|too_large| format!("{what} make {too_large}"))
}

/// How payloads are written, and how many bytes of a reply pages may fill; the rest is for the envelope.
pub(crate) fn page(directory: &Directory) -> (&Payloads, usize) {
    (directory.payloads(), directory.payload_limit().saturating_sub(ENVELOPE / 2))
}

/// The events from number `from` on, as many as `most` bytes hold. An event that is larger than that comes in parts:
/// this is the one at `offset` of its JSON text.
pub(crate) fn page_of_history(
    run: String,
    events: Vec<Event>,
    (from, offset): (usize, usize),
    (payloads, most): (&Payloads, usize),
) -> ReplyBody {
    let total = events.len();
    let (mut page, mut bytes) = (Vec::new(), 0);
    for event in events.into_iter().skip(from) {
        let encoded = payloads.encode(&event);
        bytes += encoded.len() + 1;
        if bytes <= most {
            page.push(event);
            continue;
        }
        if page.is_empty() {
            return part(run, &encoded, offset, most);
        }
        break;
    }
    let next = from.saturating_add(page.len());
    ReplyBody::HistoryPage { run, events: page, next: (next < total).then_some(next) }
}

fn part(run: String, event: &[u8], offset: usize, most: usize) -> ReplyBody {
    let event = String::from_utf8_lossy(event);
    let begin = event.floor_char_boundary(offset);
    // Quotes and backslashes take two bytes each in the reply.
    let end = event.ceil_char_boundary(begin.saturating_add((most / 2).max(1)));
    ReplyBody::HistoryPart { run, text: event[begin..end].to_owned(), last: end == event.len() }
}

/// As many summaries as `most` bytes hold, and whether there are others.
pub(crate) fn page_of_list(found: Vec<Summary>, more: bool, (payloads, most): (&Payloads, usize)) -> ReplyBody {
    let total = found.len();
    let (mut page, mut bytes) = (Vec::new(), 0);
    for summary in found {
        let summary = fitting(summary, (payloads, most));
        bytes += payloads.encode(&summary).len() + 1;
        if bytes > most && !page.is_empty() {
            break;
        }
        page.push(summary);
    }
    let more = more || page.len() < total;
    ReplyBody::Listing { page, more }
}

/// The summary, without what makes it too large for a reply.
pub(crate) fn fitting(mut summary: Summary, (payloads, most): (&Payloads, usize)) -> Summary {
    while payloads.encode(&summary).len() > most && summary.waiting.len() > 3 {
        summary.waiting.truncate(summary.waiting.len() / 2);
    }
    if payloads.encode(&summary).len() > most {
        summary.shorten();
    }
    summary
}

#[cfg(test)]
mod tests {
    use partitura_workflow::{EventKind, Payload};

    use super::*;
    use crate::wire;

    fn event(text: &str) -> Event {
        let payload = Payload::encode_unproven(text).expect("text");
        let (name, message_id) = ("n".to_owned(), "m".to_owned());
        Event::new(1, EventKind::SignalReceived { name, payload, message_id })
    }

    /// Reads a history as the client does.
    fn read(events: &[Event], most: usize) -> Vec<Event> {
        let (mut read, mut from, mut text) = (Vec::new(), 0, String::new());
        loop {
            let body = page_of_history("run".into(), events.to_vec(), (from, text.len()), (&Payloads::default(), most));
            assert!(wire::encode(&body).len() <= most + ENVELOPE / 2, "{body:?}");
            match body {
                ReplyBody::HistoryPage { events, next, .. } => {
                    read.extend(events);
                    match next {
                        Some(next) => from = next,
                        None => return read,
                    }
                }
                ReplyBody::HistoryPart { text: part, last, .. } => {
                    text.push_str(&part);
                    if last {
                        read.push(wire::decode(text.as_bytes()).expect("an event"));
                        text.clear();
                        from += 1;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_history_is_read_whole_however_little_a_reply_holds() {
        let texts = ["", "short", &"\"\\".repeat(3_000), &"é→🦀".repeat(2_000), "end", &"x".repeat(5_000)];
        let events: Vec<Event> = texts.iter().map(|text| event(text)).collect();
        for most in [300, 1_000, 7_001, 1 << 20] {
            assert_eq!(read(&events, most), events, "{most}");
        }
        assert_eq!(read(&[], 300), []);
    }
}

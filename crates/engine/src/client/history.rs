//! Reads a history page by page.

use partitura_workflow::{Event, Workflow};

use super::connection::unexpected;
use super::target::Target;
use crate::error::ClientError;
use crate::wire::{Command, ReplyBody};

/// Everything that happened to the latest run of the instance, however long it is.
pub(super) async fn read<W: Workflow>(target: &Target) -> Result<Vec<Event>, ClientError> {
    let (mut history, mut run, mut text) = (Vec::new(), None, String::new());
    loop {
        let (from, offset) = (history.len(), text.len());
        let question = |reply_to| Command::History { run: run.take(), from, offset, reply_to };
        match target.connection.ask::<W>(&target.id, question).await? {
            ReplyBody::HistoryPage { run: of, mut events, next } => {
                run = Some(of);
                history.append(&mut events);
                if next.is_none_or(|next| next != history.len()) {
                    return Ok(history);
                }
            }
            // One event, too large for one reply.
            ReplyBody::HistoryPart { run: of, text: part, last } => {
                run = Some(of);
                text.push_str(&part);
                if last {
                    let event = target.connection.directory.payloads().decode(text.as_bytes());
                    history.push(event.map_err(|error| ClientError::Refused(format!("an event: {error}")))?);
                    text.clear();
                }
            }
            other => return Err(unexpected::<W>(&target.id, other)),
        }
    }
}

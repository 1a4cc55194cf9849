//! Tells workflows how instances have ended that they started and did not await.

use partitura_broker::{Message, Result};
use partitura_workflow::Payload;

use crate::messaging::directory::Directory;
use crate::wire::end_signal::{EndSignal, ToldEnd};
use crate::wire::{self, Command, Outcome, Request};

/// Tells that an instance has ended. It is a signal, so that it reaches the receiver in whichever run.
pub(crate) fn message(directory: &Directory, to: &EndSignal, ended: &str, outcome: &Outcome) -> Result<Message> {
    let end = ToldEnd { id: ended.to_owned(), end: outcome.into() };
    let payload = Payload::encode(&end).unwrap_or_else(|_| Payload::null());
    let signal = Command::Signal { name: to.channel.clone(), payload, request: Request::default() };
    let topic = directory.workflow(&to.workflow)?.commands;
    Ok(wire::command(directory.payloads(), &topic, &to.id, format!("{}.e", to.request), &signal))
}

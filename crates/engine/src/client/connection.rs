//! The way of clients to the broker: commands out, replies back.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use partitura_broker::{Clock, Error, ErrorKind, Message, Producer, Timestamp};
use partitura_workflow::Workflow;
use tracing::{Instrument, Span};

use crate::error::ClientError;
use crate::layer::{ClientCall, Layers};
use crate::messaging::directory::{Destination, Directory};
use crate::messaging::mailbox::{Mailbox, PendingReply};
use crate::retry_for::retry_for;
use crate::storage::turn_store::TurnStore;
use crate::telemetry::propagator::{Propagation, carry};
use crate::telemetry::spans;
use crate::wire::ids::Ids;
use crate::wire::names::check_id;
use crate::wire::{self, Command, ReplyBody, ReplyTo, Start, sizes};

/// How long a question may go unanswered, and a command unconfirmed.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The shared state of all handles of a client.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) directory: Arc<Directory>,
    pub(crate) producer: Box<dyn Producer>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) ids: Arc<dyn Ids>,
    /// The stored instances, to be read.
    pub(crate) stored: TurnStore,
    pub(crate) clock: Arc<dyn Clock>,
    /// How long one waits at most for an outcome before one asks again.
    pub(crate) ask_again: Duration,
    pub(crate) propagation: Propagation,
    pub(crate) layers: Layers,
    pub(crate) hopeless: Hopeless,
}

/// Ends a test that waits for an answer that will not come. Outside of tests there is none.
#[derive(Clone, Default)]
pub(crate) struct Hopeless(pub(crate) Option<Arc<HopelessOf>>);

/// Panics once the answer of an instance, named by its workflow and its id, will not come.
pub(crate) type HopelessOf = dyn Fn(&str, &str) -> BoxFuture<'static, Infallible> + Send + Sync;

impl Hopeless {
    /// Never resolves: it panics, or waits for ever.
    pub(crate) fn of(&self, (workflow, id): (&str, &str)) -> BoxFuture<'static, Infallible> {
        match &self.0 {
            Some(hopeless) => hopeless(workflow, id),
            None => Box::pin(std::future::pending()),
        }
    }
}

impl fmt::Debug for Hopeless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hopeless").field(&self.0.is_some()).finish()
    }
}

impl Connection {
    pub(crate) fn fresh(&self) -> String {
        self.ids.fresh().to_string()
    }

    /// Publishes a command until it is confirmed, for a while: under one id, so that it counts once however often it is
    /// stored. The caller could not try again like this.
    pub(crate) async fn send<W: Workflow>(
        &self,
        id: &str,
        message_id: String,
        command: &Command,
    ) -> Result<(), ClientError> {
        self.send_to((W::NAME, id), message_id, command).await
    }

    /// As [`send`](Self::send), without the type of the workflow.
    pub(crate) async fn send_to(
        &self,
        to: (&str, &str),
        message_id: String,
        command: &Command,
    ) -> Result<(), ClientError> {
        self.send_delayed(to, message_id, command, None).await
    }

    /// As [`send_to`](Self::send_to). The command arrives at this moment.
    pub(crate) async fn send_delayed(
        &self,
        (workflow, id): (&str, &str),
        message_id: String,
        command: &Command,
        not_before: Option<Timestamp>,
    ) -> Result<(), ClientError> {
        check_id(id).map_err(ClientError::InvalidId)?;
        let call = ClientCall { to: (workflow, id), command };
        self.layers.request(&call, self.send_inside((workflow, id), message_id, command, not_before)).await
    }

    /// Sends a command, inside of all layers.
    async fn send_inside(
        &self,
        (workflow, id): (&str, &str),
        message_id: String,
        command: &Command,
        not_before: Option<Timestamp>,
    ) -> Result<(), ClientError> {
        let topic = self.directory.workflow(workflow)?.commands;
        let mut message = wire::command(self.directory.payloads(), &topic, id, message_id, command);
        let context = match command {
            Command::Start(start) => start.trace.clone(),
            _ => self.propagation.context_of(&Span::current()),
        };
        carry(&mut message, context.as_ref());
        if let Some(moment) = not_before {
            message = message.not_before(moment);
        }
        let (bytes, taken) = (message.payload.len(), self.directory.payload_limit());
        let limit = sizes::limit(&self.directory, workflow, id);
        if bytes > limit {
            return Err(ClientError::TooLarge {
                workflow: workflow.to_owned(),
                id: id.to_owned(),
                bytes,
                limit,
                taken,
            });
        }
        Ok(retry_for(REQUEST_TIMEOUT, "send a command", || self.publish(workflow, message.clone())).await?)
    }

    /// Sends the start of an instance, as part of the trace that the caller is in, or of the one that the start names.
    pub(crate) async fn send_start(
        &self,
        (workflow, id): (&str, &str),
        mut start: Start,
        not_before: Option<Timestamp>,
    ) -> Result<(), ClientError> {
        let (run, topic) = (start.run.clone(), self.directory.workflow(workflow)?.commands);
        let span = spans::send(topic.as_str(), workflow, id, &run);
        self.propagation.place(&span, start.trace.as_ref(), None);
        start.trace = self.propagation.context_of(&span).or(start.trace);
        let command = Command::Start(Box::new(start));
        self.send_delayed((workflow, id), run, &command, not_before).instrument(span).await
    }

    async fn publish(&self, workflow: &str, message: Message) -> Result<(), Error> {
        self.directory.declare(&Destination::Workflow(workflow.to_owned())).await?;
        let mut results = self.producer.publish(vec![message]).await;
        let lost = || Err(Error::new(ErrorKind::OutcomeUnknown, "publish", "the broker gave no result"));
        results.pop().unwrap_or_else(lost).map(drop)
    }

    pub(crate) async fn ask<W: Workflow>(
        &self,
        id: &str,
        question: impl FnOnce(ReplyTo) -> Command,
    ) -> Result<ReplyBody, ClientError> {
        let (reply_to, reply) = self.mailbox.request();
        self.send::<W>(id, self.fresh(), &question(reply_to)).await?;
        answer::<W>(reply).await
    }
}

/// Waits for a reply, for a while.
pub(crate) async fn answer<W: Workflow>(reply: PendingReply) -> Result<ReplyBody, ClientError> {
    answer_of(W::NAME, reply).await
}

/// As [`answer`], without the type of the workflow.
pub(crate) async fn answer_of(workflow: &str, reply: PendingReply) -> Result<ReplyBody, ClientError> {
    match tokio::time::timeout(REQUEST_TIMEOUT, reply).await {
        Ok(Some(body)) => Ok(body),
        Ok(None) => Err(closed().into()),
        Err(_) => Err(ClientError::NoAnswer { workflow: workflow.to_owned(), waited: REQUEST_TIMEOUT }),
    }
}

pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "await", "the connection to the broker was closed")
}

/// Gives the error for an answer of another kind than the one that was asked for.
pub(crate) fn unexpected<W: Workflow>(id: &str, body: ReplyBody) -> ClientError {
    unexpected_of((W::NAME, id), body)
}

/// As [`unexpected`], without the type of the workflow.
pub(crate) fn unexpected_of((workflow, id): (&str, &str), body: ReplyBody) -> ClientError {
    let (workflow, id) = (workflow.to_owned(), id.to_owned());
    match body {
        ReplyBody::NotFound => ClientError::NotFound { workflow, id },
        ReplyBody::Closed { run } => ClientError::Ended { workflow, id, run },
        ReplyBody::AnotherRun { run } => ClientError::AnotherRun { workflow, id, run },
        ReplyBody::TooLarge { bytes, limit } => ClientError::AnswerTooLarge { workflow, id, bytes, limit },
        ReplyBody::Refused(reason) => ClientError::Refused(reason),
        _ => ClientError::Refused("the worker gave an answer to another question; is it of another version?".into()),
    }
}

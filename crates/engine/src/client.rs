use std::sync::Arc;
use std::time::Duration;

use partitura_broker::{Error, ErrorKind, Message, Producer};
use partitura_workflow::Workflow;

use crate::directory::{Destination, Directory};
use crate::error::ClientError;
use crate::handle::WorkflowHandle;
use crate::ids::Ids;
use crate::mailbox::{Mailbox, PendingReply};
use crate::names::check_id;
use crate::patience::patiently;
use crate::sizes;
use crate::summary::{Filter, Summary};
use crate::wire::{self, Command, ReplyBody, ReplyTo};

/// How long a question may go unanswered.
const PATIENCE: Duration = Duration::from_secs(30);

/// Starts workflows, and talks to them, from any process that is connected to the broker (the embedded broker: the one process that
/// has its file open). Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    directory: Arc<Directory>,
    producer: Box<dyn Producer>,
    mailbox: Arc<Mailbox>,
    ids: Arc<dyn Ids>,
    ask_again: Duration,
}

impl Client {
    pub(crate) fn new(
        directory: Arc<Directory>,
        producer: Box<dyn Producer>,
        mailbox: Arc<Mailbox>,
        ids: Arc<dyn Ids>,
        ask_again: Duration,
    ) -> Self {
        Self(Arc::new(Inner { directory, producer, mailbox, ids, ask_again }))
    }

    /// The instance of the workflow `W` with this id, whether it exists or not.
    pub fn workflow<W: Workflow>(&self, id: impl Into<String>) -> WorkflowHandle<W> {
        WorkflowHandle::new(self.clone(), id.into())
    }

    /// Lists instances of the workflow `W`, in the order of their ids' bytes: up to [`limit`](Filter::limit) of those that match, read
    /// page by page.
    ///
    /// # Errors
    /// [`NoAnswer`](ClientError::NoAnswer) when no worker of the workflow answers; those of the broker.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn list<W: Workflow>(&self, mut filter: Filter) -> Result<Vec<Summary>, ClientError> {
        let mut listed = Vec::new();
        loop {
            let question = |reply_to| Command::List { filter: filter.clone(), reply_to };
            // Any worker answers from the store; a key of its own each time spreads the work.
            let (mut page, more) = match self.ask::<W>(&self.fresh(), question).await? {
                ReplyBody::Listing { page, more } => (page, more),
                other => return Err(unexpected::<W>("", other)),
            };
            filter.limit = filter.limit.saturating_sub(page.len());
            filter.after = page.last().map(|summary| summary.id.clone());
            listed.append(&mut page);
            if !more || filter.limit == 0 || filter.after.is_none() {
                return Ok(listed);
            }
        }
    }

    pub(crate) fn mailbox(&self) -> &Mailbox {
        &self.0.mailbox
    }

    /// How long one waits at most for an outcome before one asks again.
    pub(crate) fn ask_again(&self) -> Duration {
        self.0.ask_again
    }

    pub(crate) fn fresh(&self) -> String {
        self.0.ids.fresh().to_string()
    }

    /// Publishes a command until it is confirmed, for a while: under one id, so that it counts once however often it is
    /// stored. Whoever called could not try again like this.
    pub(crate) async fn send<W: Workflow>(
        &self,
        id: &str,
        message_id: String,
        command: &Command,
    ) -> Result<(), ClientError> {
        check_id(id).map_err(ClientError::InvalidId)?;
        let topic = self.0.directory.workflow(W::NAME)?.commands;
        let message = wire::command(&topic, id, message_id, command);
        let (bytes, taken) = (message.payload.len(), self.0.directory.payload_limit());
        let limit = taken.saturating_sub(sizes::room(W::NAME, id));
        if bytes > limit {
            return Err(ClientError::TooLarge { workflow: W::NAME.to_owned(), id: id.to_owned(), bytes, limit, taken });
        }
        Ok(patiently("send a command", PATIENCE, || self.publish(W::NAME, message.clone())).await?)
    }

    async fn publish(&self, workflow: &str, message: Message) -> Result<(), Error> {
        self.0.directory.declare(&Destination::Workflow(workflow.to_owned())).await?;
        let mut results = self.0.producer.publish(vec![message]).await;
        let lost = || Err(Error::new(ErrorKind::OutcomeUnknown, "publish", "the broker gave no result"));
        results.pop().unwrap_or_else(lost).map(drop)
    }

    pub(crate) async fn ask<W: Workflow>(
        &self,
        id: &str,
        question: impl FnOnce(ReplyTo) -> Command,
    ) -> Result<ReplyBody, ClientError> {
        let (reply_to, reply) = self.0.mailbox.request();
        self.send::<W>(id, self.fresh(), &question(reply_to)).await?;
        answer::<W>(reply).await
    }
}

/// Waits for a reply, for a while.
pub(crate) async fn answer<W: Workflow>(reply: PendingReply) -> Result<ReplyBody, ClientError> {
    match tokio::time::timeout(PATIENCE, reply).await {
        Ok(Some(body)) => Ok(body),
        Ok(None) => Err(closed().into()),
        Err(_) => Err(ClientError::NoAnswer { workflow: W::NAME.to_owned(), waited: PATIENCE }),
    }
}

pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "await", "the connection to the broker was closed")
}

/// What an answer means that is not the one that was asked for.
pub(crate) fn unexpected<W: Workflow>(id: &str, body: ReplyBody) -> ClientError {
    let (workflow, id) = (W::NAME.to_owned(), id.to_owned());
    match body {
        ReplyBody::NotFound => ClientError::NotFound { workflow, id },
        ReplyBody::Closed { run } => ClientError::Ended { workflow, id, run },
        ReplyBody::AnotherRun { run } => ClientError::AnotherRun { workflow, id, run },
        ReplyBody::TooLarge { bytes, limit } => ClientError::AnswerTooLarge { workflow, id, bytes, limit },
        ReplyBody::Refused(reason) => ClientError::Refused(reason),
        _ => ClientError::Refused("the worker gave an answer to another question; is it of another version?".into()),
    }
}

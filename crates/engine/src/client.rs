use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use partitura_broker::{Error, ErrorKind, Message, Producer};
use partitura_workflow::{Event, Payload, Query, Signal, Workflow};
use serde::de::DeserializeOwned;

use crate::directory::{Destination, Directory};
use crate::error::{ClientError, WorkflowError};
use crate::ids::Ids;
use crate::mailbox::{Mailbox, PendingReply};
use crate::names::check_id;
use crate::patience::patiently;
use crate::summary::{Filter, Summary};
use crate::wire::{self, Command, Outcome, ReplyBody, ReplyTo, Start as StartCommand, StartPolicy};

/// How long a question may go unanswered.
const PATIENCE: Duration = Duration::from_secs(30);
/// After how long an outcome is asked for again the first time; then twice as long each time, up to the limit that is set.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// Starts workflows, and talks to them, from any process that reaches the broker. Cheap to clone.
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
        WorkflowHandle { client: self.clone(), id: id.into(), pending: Mutex::default(), workflow: PhantomData }
    }

    /// Lists instances of the workflow `W`, in the order of their ids' bytes.
    ///
    /// # Errors
    /// [`NoAnswer`](ClientError::NoAnswer) when no worker of the workflow answers; those of the broker.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn list<W: Workflow>(&self, filter: Filter) -> Result<Vec<Summary>, ClientError> {
        // Any worker answers from the store; a key of its own each time spreads the work.
        let question = |reply_to| Command::List { filter: filter.clone(), reply_to };
        match self.ask::<W>(&self.fresh(), question).await? {
            ReplyBody::Listing(summaries) => Ok(summaries),
            other => Err(unexpected::<W>("", other)),
        }
    }

    fn fresh(&self) -> String {
        self.0.ids.fresh().to_string()
    }

    /// Publishes a command until it is confirmed, for a while: under one id, so that it counts once however often it is
    /// stored. Whoever called could not try again like this.
    async fn send<W: Workflow>(&self, id: &str, message_id: String, command: &Command) -> Result<(), ClientError> {
        check_id(id).map_err(ClientError::InvalidId)?;
        let topic = self.0.directory.workflow(W::NAME)?.commands;
        let message = wire::command(&topic, id, message_id, command);
        Ok(patiently("send a command", PATIENCE, || self.publish(W::NAME, message.clone())).await?)
    }

    async fn publish(&self, workflow: &str, message: Message) -> Result<(), Error> {
        self.0.directory.declare(&Destination::Workflow(workflow.to_owned())).await?;
        let mut results = self.0.producer.publish(vec![message]).await;
        let lost = || Err(Error::new(ErrorKind::OutcomeUnknown, "publish", "the broker gave no result"));
        results.pop().unwrap_or_else(lost).map(drop)
    }

    async fn ask<W: Workflow>(
        &self,
        id: &str,
        question: impl FnOnce(ReplyTo) -> Command,
    ) -> Result<ReplyBody, ClientError> {
        let (reply_to, reply) = self.0.mailbox.request();
        self.send::<W>(id, self.fresh(), &question(reply_to)).await?;
        match tokio::time::timeout(PATIENCE, reply).await {
            Ok(Some(body)) => Ok(body),
            Ok(None) => Err(closed().into()),
            Err(_) => Err(ClientError::NoAnswer { workflow: W::NAME.to_owned(), waited: PATIENCE }),
        }
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "await", "the connection to the broker was closed")
}

fn unexpected<W: Workflow>(id: &str, body: ReplyBody) -> ClientError {
    match body {
        ReplyBody::NotFound => ClientError::NotFound { workflow: W::NAME.to_owned(), id: id.to_owned() },
        ReplyBody::Refused(reason) => ClientError::Refused(reason),
        _ => ClientError::Refused("the worker gave an answer to another question; is it of another version?".into()),
    }
}

/// One instance of the workflow `W`, named by its id.
#[derive(Debug)]
pub struct WorkflowHandle<W> {
    client: Client,
    id: String,
    /// The outcome that a start by this handle awaits already.
    pending: Mutex<Option<PendingReply>>,
    workflow: PhantomData<fn() -> W>,
}

impl<W: Workflow> WorkflowHandle<W> {
    /// The instance's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Starts the instance. Awaiting returns once the start is durable: from then on nothing can lose it.
    ///
    /// Idempotent by id unless [another policy](Start::policy) is set: an instance that exists, running or ended, is
    /// taken as it is, whatever its input was.
    ///
    /// # Errors
    /// [`AlreadyExists`](ClientError::AlreadyExists) where the policy refuses; [`InvalidId`](ClientError::InvalidId);
    /// [`Payload`](ClientError::Payload) when the input cannot be encoded; those of the broker.
    ///
    /// # Cancel safety
    /// Dropped while awaited, it may or may not have started. Starting again is harmless.
    pub fn start(&self, input: W::Input) -> Start<'_, W> {
        Start { handle: self, input, policy: StartPolicy::default(), tags: Vec::new() }
    }

    /// Waits for the outcome, however long it takes, and whichever worker is killed meanwhile.
    ///
    /// # Errors
    /// How the workflow ended, if not with a result. [`Client`](WorkflowError::Client) when that could not be learned.
    ///
    /// # Cancel safety
    /// Safe; ask again at any time.
    pub async fn result(&self) -> Result<W::Output, WorkflowError<W::Error>> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut patience = ASK_AGAIN;
        loop {
            let reply = match pending.take() {
                Some(reply) => reply,
                None => {
                    let (reply_to, reply) = self.client.0.mailbox.request();
                    let question = Command::Await { reply_to };
                    self.client.send::<W>(&self.id, self.client.fresh(), &question).await?;
                    reply
                }
            };
            match tokio::time::timeout(patience, reply).await {
                Ok(Some(ReplyBody::Ended(Outcome::Ok(result)))) => {
                    return result.decode().map_err(|error| ClientError::from(error).into());
                }
                Ok(Some(ReplyBody::Ended(Outcome::Err(failure)))) => return Err(WorkflowError::of(failure)),
                Ok(Some(other)) => return Err(unexpected::<W>(&self.id, other).into()),
                Ok(None) => return Err(ClientError::from(closed()).into()),
                Err(_) => patience = (patience * 2).min(self.client.0.ask_again),
            }
        }
    }

    /// Sends a signal. It is kept, also when the workflow does not wait for it yet.
    ///
    /// Returns once the signal is durable. A signal to an instance that does not exist, or has ended, has no effect.
    ///
    /// # Errors
    /// [`Payload`](ClientError::Payload) when the arguments cannot be encoded; those of the broker.
    ///
    /// # Cancel safety
    /// Dropped while awaited, the signal may or may not have been sent.
    pub async fn signal(&self, signal: Signal<W>) -> Result<(), ClientError> {
        let (name, payload) = signal.into_parts()?;
        let command = Command::Signal { name, payload };
        self.client.send::<W>(&self.id, self.client.fresh(), &command).await
    }

    /// Asks the running workflow something; it is not changed by that.
    ///
    /// # Errors
    /// [`NotFound`](ClientError::NotFound); [`Refused`](ClientError::Refused) with the reason (unknown query, ended,
    /// stopped); [`NoAnswer`](ClientError::NoAnswer).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn query<R: DeserializeOwned>(&self, query: Query<W, R>) -> Result<R, ClientError> {
        let (name, args) = query.into_parts()?;
        match self.client.ask::<W>(&self.id, |reply_to| Command::Query { name, args, reply_to }).await? {
            ReplyBody::Answer(answer) => Ok(Payload::decode(&answer)?),
            other => Err(unexpected::<W>(&self.id, other)),
        }
    }

    /// Asks the workflow to stop: whatever it awaits resolves as cancelled, and its code decides what to undo.
    ///
    /// Returns once the request is durable.
    ///
    /// # Errors
    /// Those of the broker.
    ///
    /// # Cancel safety
    /// Dropped while awaited, the request may or may not have been sent.
    pub async fn cancel(&self, reason: impl Into<String>) -> Result<(), ClientError> {
        let command = Command::Cancel { run: None, reason: Some(reason.into()) };
        self.client.send::<W>(&self.id, self.client.fresh(), &command).await
    }

    /// Ends the workflow at once, without running any more of its code: nothing is compensated.
    ///
    /// # Errors
    /// Those of the broker.
    ///
    /// # Cancel safety
    /// Dropped while awaited, the request may or may not have been sent.
    pub async fn terminate(&self, reason: impl Into<String>) -> Result<(), ClientError> {
        let command = Command::Terminate { reason: reason.into() };
        self.client.send::<W>(&self.id, self.client.fresh(), &command).await
    }

    /// Tries a stopped instance again, now: it does that by itself from time to time.
    ///
    /// # Errors
    /// Those of the broker.
    ///
    /// # Cancel safety
    /// Dropped while awaited, the request may or may not have been sent.
    pub async fn resume(&self) -> Result<(), ClientError> {
        self.client.send::<W>(&self.id, self.client.fresh(), &Command::Resume).await
    }

    /// Where the instance stands.
    ///
    /// # Errors
    /// [`NotFound`](ClientError::NotFound), [`NoAnswer`](ClientError::NoAnswer); those of the broker.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn describe(&self) -> Result<Summary, ClientError> {
        match self.client.ask::<W>(&self.id, |reply_to| Command::Describe { reply_to }).await? {
            ReplyBody::Description(summary) => Ok(*summary),
            other => Err(unexpected::<W>(&self.id, other)),
        }
    }

    /// Everything that happened to the instance.
    ///
    /// # Errors
    /// [`NotFound`](ClientError::NotFound), [`NoAnswer`](ClientError::NoAnswer); those of the broker, among them
    /// [`PayloadTooLarge`](ErrorKind::PayloadTooLarge) for a history too long for one reply.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn history(&self) -> Result<Vec<Event>, ClientError> {
        match self.client.ask::<W>(&self.id, |reply_to| Command::History { reply_to }).await? {
            ReplyBody::History(events) => Ok(events),
            other => Err(unexpected::<W>(&self.id, other)),
        }
    }
}

/// A start about to happen: await it.
#[derive(Debug)]
#[must_use = "nothing is started before this is awaited"]
pub struct Start<'a, W: Workflow> {
    handle: &'a WorkflowHandle<W>,
    input: W::Input,
    policy: StartPolicy,
    tags: Vec<String>,
}

impl<W: Workflow> Start<'_, W> {
    /// What to do when there is an instance of this id already.
    pub fn policy(mut self, policy: StartPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Adds a label to find the instance by.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    async fn send(self) -> Result<(), ClientError> {
        let Self { handle, input, policy, tags } = self;
        let mailbox = &handle.client.0.mailbox;
        let run = handle.client.fresh();
        let (reply_to, outcome) = mailbox.request();
        let verdict = (policy == StartPolicy::Reject).then(|| mailbox.request());
        let (accepted, verdict) = verdict.unzip();
        let start = StartCommand {
            run: run.clone(),
            input: Payload::encode(&input)?,
            parent: None,
            tags,
            policy,
            reply_to: Some(reply_to),
            accepted,
        };
        handle.client.send::<W>(&handle.id, run.clone(), &Command::Start(Box::new(start))).await?;
        *handle.pending.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        let Some(verdict) = verdict else { return Ok(()) };
        match tokio::time::timeout(PATIENCE, verdict).await {
            Ok(Some(ReplyBody::Accepted)) => Ok(()),
            Ok(Some(ReplyBody::Rejected { run })) => {
                *handle.pending.lock().unwrap_or_else(PoisonError::into_inner) = None;
                Err(ClientError::AlreadyExists { workflow: W::NAME.to_owned(), id: handle.id.clone(), run })
            }
            Ok(Some(other)) => Err(unexpected::<W>(&handle.id, other)),
            Ok(None) => Err(closed().into()),
            Err(_) => Err(ClientError::NoAnswer { workflow: W::NAME.to_owned(), waited: PATIENCE }),
        }
    }
}

impl<'a, W: Workflow> IntoFuture for Start<'a, W> {
    type Output = Result<(), ClientError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

//! One instance, without its Rust type.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use partitura_workflow::{Event, Payload};
use serde::Serialize;

use super::connection::{Connection, answer_of, unexpected_of};
use super::instances::Instances;
use super::requests::{Demand, Request};
use super::start::StartReceipt;
use super::update;
use crate::error::ClientError;
use crate::storage::history_part::{Part, part, turns};
use crate::storage::turn_store::HISTORY;
use crate::storage::{heartbeats, history, search};
use crate::wire::find::InstanceName;
use crate::wire::names::InstanceKey;
use crate::wire::summary::Summary;
use crate::wire::waiting::Known;
use crate::wire::{
    Command, Outcome, ReplyBody, ReplyTo, Request as Terms, Start as StartCommand, StartPolicy, waiting,
};

/// One instance of any workflow. Its state is read from the store, without a worker; what is asked of it is done by a
/// worker of its workflow. Cheap to clone.
#[derive(Clone)]
pub struct InstanceHandle {
    pub(super) connection: Arc<Connection>,
    pub(super) name: InstanceName,
}

/// A part of a history.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct HistoryPage {
    /// Of which run.
    pub run: String,
    /// The number of the first of the events, counted from 0.
    pub first: usize,
    /// The events.
    pub events: Vec<Event>,
    /// How many events the run has in all.
    pub total: usize,
}

impl InstanceHandle {
    pub(crate) fn new(connection: Arc<Connection>, name: InstanceName) -> Self {
        Self { connection, name }
    }

    /// Its workflow and its id.
    pub fn name(&self) -> &InstanceName {
        &self.name
    }

    fn key(&self) -> InstanceKey {
        InstanceKey::new(&self.name.workflow, &self.name.id)
    }

    fn not_found(&self) -> ClientError {
        let InstanceName { workflow, id } = self.name.clone();
        ClientError::NotFound { workflow, id }
    }

    /// Where its latest run stands, with the event that ended it.
    ///
    /// # Errors
    /// [`NotFound`](ClientError::NotFound); [`Unsupported`](partitura_broker::ErrorKind::Unsupported) when this
    /// connection has no store; those of the store.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn summary(&self) -> Result<Summary, ClientError> {
        let found = history::summary(&self.connection.stored, &self.key()).await?;
        found.map(|(_, summary)| summary).ok_or_else(|| self.not_found())
    }

    /// The summary, and what the instance waits for as far as its history says it: channels and conditions are known to
    /// its code alone, which a worker has ([`WorkflowHandle::describe`](crate::WorkflowHandle::describe)).
    ///
    /// # Errors
    /// As for [`summary`](Self::summary).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn describe(&self) -> Result<Summary, ClientError> {
        let mut summary = self.summary().await?;
        if !summary.status.is_closed() {
            let mut open = waiting::Open::default();
            history::events(&self.connection.stored, &self.key(), &summary.run, |event| open.record(event)).await?;
            self.note_waiting(&mut summary, open).await?;
        }
        Ok(summary)
    }

    /// As [`describe`](Self::describe), by the last `limit` events of its history: what it began to wait for before
    /// these is missing. It costs the same however long the history is.
    ///
    /// # Errors
    /// As for [`summary`](Self::summary).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn describe_by_last_events(&self, limit: usize) -> Result<Summary, ClientError> {
        let mut summary = self.summary().await?;
        if !summary.status.is_closed() {
            let mut open = waiting::Open::default();
            let last = self.last_events_of_run(&summary.run, limit).await?;
            last.events.iter().for_each(|event| open.record(event));
            self.note_waiting(&mut summary, open).await?;
        }
        Ok(summary)
    }

    async fn note_waiting(&self, summary: &mut Summary, open: waiting::Open) -> Result<(), ClientError> {
        let beats = heartbeats::kept(&self.connection.stored, &self.key(), &summary.run).await?;
        let known: HashMap<u32, Known> = beats.into_iter().map(|(seq, beat)| (seq, beat.known())).collect();
        (summary.waiting, summary.waits_for) = open.list(None, |seq| known.get(&seq).copied());
        Ok(())
    }

    /// Up to `limit` events of the latest run, from number `first` on, counted from 0.
    ///
    /// # Errors
    /// As for [`summary`](Self::summary).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn history(&self, first: usize, limit: usize) -> Result<HistoryPage, ClientError> {
        let run = self.summary().await?.run;
        self.history_of_run(&run, first, limit).await
    }

    /// The last `limit` events of the latest run.
    ///
    /// # Errors
    /// As for [`summary`](Self::summary).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn last_events(&self, limit: usize) -> Result<HistoryPage, ClientError> {
        let run = self.summary().await?.run;
        self.last_events_of_run(&run, limit).await
    }

    /// As [`last_events`](Self::last_events), of another run.
    ///
    /// # Errors
    /// As for [`summary`](Self::summary).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn last_events_of_run(&self, run: &str, limit: usize) -> Result<HistoryPage, ClientError> {
        self.history_of(run, |total| total.saturating_sub(limit)..total).await
    }

    /// As [`history`](Self::history), of another run: one that has [continued as
    /// new](partitura_workflow::Cx::continue_as_new), say.
    ///
    /// # Errors
    /// As for [`summary`](Self::summary).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn history_of_run(&self, run: &str, first: usize, limit: usize) -> Result<HistoryPage, ClientError> {
        self.history_of(run, |_| first..first.saturating_add(limit)).await
    }

    async fn history_of(
        &self,
        run: &str,
        wanted: impl FnOnce(usize) -> Range<usize>,
    ) -> Result<HistoryPage, ClientError> {
        let Part { first, events, total } = part(&self.connection.stored, &self.key(), run, wanted).await?;
        if total == 0 {
            return Err(self.not_found());
        }
        Ok(HistoryPage { run: run.to_owned(), first, events, total })
    }

    /// How many turns a run has taken: it grows with its history, and is found without reading that.
    ///
    /// # Errors
    /// Those of the store.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn turns(&self, run: &str) -> Result<usize, ClientError> {
        Ok(turns(&self.connection.stored, &self.key(), run).await?)
    }

    /// The runs of its id whose histories are kept, in the order of their names: as a rule, of their starts.
    ///
    /// # Errors
    /// As for [`summary`](Self::summary).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn runs(&self) -> Result<Vec<String>, ClientError> {
        let of_all = history::turns_prefix(&self.key(), None);
        let names = search::names(&self.connection.stored, HISTORY, &of_all, &BTreeSet::new()).await?;
        let name = |mut name: Vec<u8>| {
            name.pop();
            String::from_utf8_lossy(&name).into_owned()
        };
        Ok(names.into_iter().map(name).collect())
    }

    /// Its children, of all its runs.
    pub fn children(&self) -> Instances {
        Instances::new(self.connection.clone()).parent(self.name.clone())
    }

    async fn question(&self, question: impl FnOnce(ReplyTo) -> Command) -> Result<ReplyBody, ClientError> {
        let (workflow, id) = (&*self.name.workflow, &*self.name.id);
        let (reply_to, reply) = self.connection.mailbox.request();
        self.connection.send_to((workflow, id), self.connection.fresh(), &question(reply_to)).await?;
        answer_of(workflow, reply).await
    }

    /// As [`describe`](Self::describe), by a worker: it knows of channels and conditions, too, and of code that does
    /// not come back.
    ///
    /// # Errors
    /// [`NotFound`](ClientError::NotFound), [`NoAnswer`](ClientError::NoAnswer); those of the broker.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn describe_by_worker(&self) -> Result<Summary, ClientError> {
        match self.question(|reply_to| Command::Describe { reply_to }).await? {
            ReplyBody::Description(summary) => Ok(*summary),
            other => Err(unexpected_of((&self.name.workflow, &self.name.id), other)),
        }
    }

    /// Asks the workflow something, as [`WorkflowHandle::query`](crate::WorkflowHandle::query) does: the
    /// arguments are an object with the query's argument names.
    ///
    /// # Errors
    /// As for the typed query.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn query(&self, name: impl Into<String>, arguments: &impl Serialize) -> Result<Payload, ClientError> {
        let (name, args) = (name.into(), Payload::encode_unproven(arguments)?);
        match self.question(|reply_to| Command::Query { name, args, reply_to }).await? {
            ReplyBody::Answer(answer) => Ok(answer),
            other => Err(unexpected_of((&self.name.workflow, &self.name.id), other)),
        }
    }

    /// Updates it, as [`WorkflowHandle::update`](crate::WorkflowHandle::update) does, and gives the result: the
    /// arguments are an object with the update's argument names. An update of an `id` that the instance has had already
    /// gives the result that it gave then.
    ///
    /// # Errors
    /// [`Refused`](ClientError::Refused), with the reason, when it was rejected, has failed or cannot be applied; else
    /// as for [`query`](Self::query).
    ///
    /// # Cancel safety
    /// Dropped, it may or may not be applied. Sending it again under its `id` is harmless.
    pub async fn update(
        &self,
        name: impl Into<String>,
        arguments: &impl Serialize,
        id: Option<String>,
    ) -> Result<Payload, ClientError> {
        update::check(id.as_deref())?;
        let (name, args) = (name.into(), Payload::encode_unproven(arguments)?);
        let id = id.unwrap_or_else(|| self.connection.fresh());
        let instance = (&*self.name.workflow, &*self.name.id);
        let command = |reply_to| {
            let request = Terms { id: Some(id.clone()), run: None, reply_to: Some(reply_to) };
            Command::Update { name: name.clone(), args: args.clone(), request }
        };
        match update::until_answered(&self.connection, instance, command).await? {
            ReplyBody::Updated(Outcome::Ok(result)) => Ok(result),
            ReplyBody::Updated(Outcome::Err(failure)) | ReplyBody::Invalid(failure) => {
                Err(ClientError::Refused(failure.to_string()))
            }
            ReplyBody::Stopped { reason } => Err(ClientError::Refused(reason)),
            ReplyBody::Interrupted { run } => {
                Err(ClientError::Refused(format!("run {run} ended before it had answered")))
            }
            other => Err(unexpected_of(instance, other)),
        }
    }

    /// Starts it with this input, tags and policy, and waits until a worker has taken the start, for up to 30 seconds:
    /// as [`WorkflowHandle::start`](crate::WorkflowHandle::start) does, without its type.
    ///
    /// # Errors
    /// Those of the [confirmed](crate::Start::confirmed) start.
    ///
    /// # Cancel safety
    /// Dropped while awaited, it may or may not have started. Starting again is harmless.
    pub async fn start(
        &self,
        input: Payload,
        tags: Vec<String>,
        policy: StartPolicy,
    ) -> Result<StartReceipt, ClientError> {
        let run = self.connection.fresh();
        let (accepted, verdict) = self.connection.mailbox.request();
        let (workflow, id) = (&*self.name.workflow, &*self.name.id);
        let start = StartCommand { tags, policy, accepted: Some(accepted), ..StartCommand::new(run, input) };
        self.connection.send_start((workflow, id), start, None).await?;
        match answer_of(workflow, verdict).await? {
            ReplyBody::Started { run, is_new } => Ok(StartReceipt { run, is_new }),
            ReplyBody::Rejected { run } => {
                Err(ClientError::AlreadyExists { workflow: workflow.to_owned(), id: id.to_owned(), run })
            }
            other => Err(unexpected_of((workflow, id), other)),
        }
    }

    fn request(&self, demand: Demand) -> Request<'_> {
        Request::new(&self.connection, (&self.name.workflow, &self.name.id), demand)
    }

    /// Sends a signal, whose arguments are these: as [`WorkflowHandle::signal`](crate::WorkflowHandle::signal), without
    /// its type. The arguments of a handler are an object with its argument names; a channel takes any value.
    pub fn signal(&self, name: impl Into<String>, arguments: &impl Serialize) -> Request<'_> {
        let name = name.into();
        self.request(Demand::Signal(Payload::encode_unproven(arguments).map(|payload| (name, payload))))
    }

    /// Asks it to stop, as [`WorkflowHandle::cancel`](crate::WorkflowHandle::cancel) does.
    pub fn cancel(&self, reason: impl Into<String>) -> Request<'_> {
        self.request(Demand::Cancel(reason.into()))
    }

    /// Ends it at once, as [`WorkflowHandle::terminate`](crate::WorkflowHandle::terminate) does.
    pub fn terminate(&self, reason: impl Into<String>) -> Request<'_> {
        self.request(Demand::Terminate(reason.into()))
    }

    /// Deletes it, as [`WorkflowHandle::delete`](crate::WorkflowHandle::delete) does.
    pub fn delete(&self) -> Request<'_> {
        self.request(Demand::Delete)
    }

    /// Lets none of its code run until it is resumed, as [`WorkflowHandle::pause`](crate::WorkflowHandle::pause) does.
    pub fn pause(&self, reason: impl Into<String>) -> Request<'_> {
        self.request(Demand::Pause(reason.into()))
    }

    /// Lets it go on, as [`WorkflowHandle::resume`](crate::WorkflowHandle::resume) does. The history keeps why, if that
    /// is [said](Request::because).
    pub fn resume(&self) -> Request<'_> {
        self.request(Demand::Resume)
    }
}

impl fmt::Debug for InstanceHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("InstanceHandle").field(&self.name.to_string()).finish()
    }
}

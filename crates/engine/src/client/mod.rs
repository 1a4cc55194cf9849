//! Clients: start workflows, and talk to them.

pub(crate) mod bulk;
mod connection;
pub(crate) mod delegated;
pub(crate) mod event_streams;
pub(crate) mod handle;
mod history;
pub(crate) mod instance;
pub(crate) mod instances;
pub(crate) mod pausing;
mod repair;
pub(crate) mod requests;
pub(crate) mod start;
mod target;
pub(crate) mod update;
pub(crate) mod versions;

use std::fmt::Display;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use partitura_workflow::{Failure, FailureKind, Payload, Workflow};
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::connection::unexpected;
pub(crate) use self::connection::{Connection, Hopeless};
use self::delegated::Completion;
use self::handle::WorkflowHandle;
use self::instance::InstanceHandle;
use self::instances::Instances;
use crate::error::ClientError;
use crate::schedule::handle::ScheduleHandle;
use crate::schedule::workflow::ScheduleWorkflow;
use crate::wire::find::InstanceName;
use crate::wire::summary::{Filter, Summary};
use crate::wire::token::TaskToken;
use crate::wire::{Command, Outcome, ReplyBody};

/// How many instances a purge deletes at a time.
const DELETIONS: usize = 100;

/// Starts workflows, and talks to them, from any process that is connected to the broker (the embedded broker: the one
/// process that has its file open). Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client(Arc<Connection>);

impl Client {
    pub(crate) fn new(connection: Connection) -> Self {
        Self(Arc::new(connection))
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.0
    }

    /// The instance of the workflow `W` with this id, whether it exists or not.
    pub fn workflow<W: Workflow>(&self, id: impl Into<String>) -> WorkflowHandle<W> {
        WorkflowHandle::new(self.0.clone(), id.into())
    }

    /// The instances of all workflows, to be found and operated on: without their Rust types, and, where it is only
    /// read, without any worker that runs. The connection needs the store of the workers for that.
    pub fn instances(&self) -> Instances {
        Instances::new(self.0.clone())
    }

    /// The instance of this workflow with this id, without the Rust type of the workflow.
    pub fn instance(&self, workflow: impl Into<String>, id: impl Into<String>) -> InstanceHandle {
        InstanceHandle::new(self.0.clone(), InstanceName::new(workflow, id))
    }

    /// The schedule of this id, whether it exists or not: instances that are started again and again.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use partitura_engine::{Client, ClientError, Overlap};
    /// # use partitura_workflow::Workflow;
    /// # async fn example<Report: Workflow<Input = String>>(client: Client) -> Result<(), ClientError> {
    /// let nightly = client.schedule("nightly").cron("0 3 * * *").time_zone("Europe/Berlin");
    /// let nightly = nightly.overlap(Overlap::Skip).jitter(Duration::from_secs(300));
    /// nightly.start::<Report>("sales".to_owned()).await?;
    ///
    /// client.schedule("nightly").pause("the data centre moves").await?;
    /// # Ok(()) }
    /// ```
    pub fn schedule(&self, id: impl Into<String>) -> ScheduleHandle {
        ScheduleHandle::new(self.workflow::<ScheduleWorkflow>(id))
    }

    /// The ids of all schedules, in the order of their bytes.
    ///
    /// # Errors
    /// [`NoAnswer`](ClientError::NoAnswer) if no worker runs schedules; those of the broker.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn schedules(&self) -> Result<Vec<String>, ClientError> {
        let known = self.list::<ScheduleWorkflow>(Filter::all()).await?;
        Ok(known.into_iter().filter(|summary| !summary.status.is_closed()).map(|summary| summary.id).collect())
    }

    /// Gives a task that was [delegated](crate::TaskContext::delegate) its result: in any process, hours later,
    /// whichever workers run meanwhile.
    ///
    /// Awaiting returns once the result is durable; ask for an answer with [`confirmed`](Completion::confirmed). A task
    /// takes one completion: what comes later has no effect, and neither has a token whose attempt was given up. The
    /// type is that of the method's result, which is not checked here.
    ///
    /// # Errors
    /// [`Payload`](ClientError::Payload) when the result cannot be encoded; [`TooLarge`](ClientError::TooLarge); those
    /// of the broker.
    ///
    /// # Cancel safety
    /// Dropped while awaited, the result may or may not have been sent. Sending it again is harmless.
    pub fn complete_task<T: Serialize + DeserializeOwned>(&self, token: &TaskToken, result: &T) -> Completion<'_> {
        Completion::new(&self.0, token.clone(), Payload::encode(result).map(Outcome::Ok))
    }

    /// Lets a task that was [delegated](crate::TaskContext::delegate) fail, with an error of the method's own type: its
    /// workflow gets [`TaskError::Failed`](partitura_workflow::TaskError::Failed). This is final, whatever the retry
    /// policy is.
    ///
    /// Otherwise as [`complete_task`](Self::complete_task).
    ///
    /// # Errors
    /// As for [`complete_task`](Self::complete_task).
    ///
    /// # Cancel safety
    /// As for [`complete_task`](Self::complete_task).
    pub fn fail_task<E>(&self, token: &TaskToken, error: &E) -> Completion<'_>
    where
        E: Serialize + DeserializeOwned + Display,
    {
        let failed = |details| {
            let failure = Failure::new(FailureKind::Application, error.to_string());
            Outcome::Err(Failure { details: Some(details), ..failure })
        };
        Completion::new(&self.0, token.clone(), Payload::encode(error).map(failed))
    }

    /// Says that a task that was [delegated](crate::TaskContext::delegate) is still worked on, and how far it is: the
    /// counterpart of [`TaskContext::heartbeat`](crate::TaskContext::heartbeat). The details are kept for the next
    /// attempt.
    ///
    /// # Errors
    /// [`TokenRefused`](ClientError::TokenRefused) and [`Ended`](ClientError::Ended): the task is no longer wanted.
    /// [`NotFound`](ClientError::NotFound), [`AnotherRun`](ClientError::AnotherRun),
    /// [`NoAnswer`](ClientError::NoAnswer); [`Payload`](ClientError::Payload) when the details cannot be encoded; those
    /// of the broker.
    ///
    /// # Cancel safety
    /// Dropped while awaited, it may or may not have been sent.
    pub async fn heartbeat_task<T: Serialize>(&self, token: &TaskToken, details: &T) -> Result<(), ClientError> {
        delegated::heartbeat(&self.0, token, Payload::encode_unproven(details)?).await
    }

    /// Lists instances of the workflow `W`, in the order of their ids' bytes: up to [`limit`](Filter::limit) of those
    /// that match, read page by page.
    ///
    /// # Errors
    /// [`NoAnswer`](ClientError::NoAnswer) when no worker of the workflow answers; those of the broker.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn list<W: Workflow>(&self, mut filter: Filter) -> Result<Vec<Summary>, ClientError> {
        let mut listed = Vec::new();
        loop {
            let (mut page, more) = self.page::<W>(&mut filter).await?;
            listed.append(&mut page);
            if !more {
                return Ok(listed);
            }
        }
    }

    /// Reads a page of what matches, whether there may be more, and sets the filter to what is behind it.
    async fn page<W: Workflow>(&self, filter: &mut Filter) -> Result<(Vec<Summary>, bool), ClientError> {
        let question = |reply_to| Command::List { filter: filter.clone(), reply_to };
        // Any worker answers from the store; a key of its own each time spreads the work.
        let (page, more) = match self.0.ask::<W>(&self.0.fresh(), question).await? {
            ReplyBody::Listing { page, more } => (page, more),
            other => return Err(unexpected::<W>("", other)),
        };
        filter.limit = filter.limit.saturating_sub(page.len());
        filter.after = page.last().map(|summary| summary.id.clone());
        let more = more && filter.limit > 0 && filter.after.is_some();
        Ok((page, more))
    }

    /// Deletes the instances of the workflow `W` that match and have ended, as [`delete`](WorkflowHandle::delete) does,
    /// and says how many: up to [`limit`](Filter::limit) of them.
    ///
    /// # Errors
    /// As for [`list`](Self::list).
    ///
    /// # Cancel safety
    /// Dropped, some are deleted.
    pub async fn purge<W: Workflow>(&self, mut filter: Filter) -> Result<usize, ClientError> {
        let mut deleted = 0;
        loop {
            let (page, more) = self.page::<W>(&mut filter).await?;
            let ended = page.into_iter().filter(|summary| summary.status.is_closed());
            let mut deletions = stream::iter(ended).map(|ended| self.delete::<W>(ended)).buffer_unordered(DELETIONS);
            while let Some(is_deleted) = deletions.try_next().await? {
                deleted += usize::from(is_deleted);
            }
            if !more {
                return Ok(deleted);
            }
        }
    }

    /// Deletes an instance that had ended, unless another was faster or there is a new run by now.
    async fn delete<W: Workflow>(&self, Summary { id, run, .. }: Summary) -> Result<bool, ClientError> {
        match self.workflow::<W>(id).delete().run(run).confirmed().await {
            Ok(()) => Ok(true),
            Err(ClientError::NotFound { .. } | ClientError::AnotherRun { .. } | ClientError::Refused(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

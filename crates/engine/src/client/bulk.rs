//! Actions on all instances that a filter finds.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;

use futures::{StreamExt, stream};
use partitura_workflow::{Payload, Signal, Workflow};
use serde::Serialize;

use super::instance::InstanceHandle;
use super::instances::Instances;
use super::update;
use crate::error::ClientError;
use crate::wire::find::InstanceName;
use crate::wire::summary::{Status, Summary};

/// How many instances are asked at a time.
const AT_ONCE: usize = 100;
/// How many instances are named that something was refused for, or that would be acted on.
const NAMED: usize = 100;

/// The action on each instance.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    Cancel(String),
    Terminate(String),
    Delete,
    Pause(String),
    Resume(String),
    Retry(String),
    Skip(Payload, String),
    Signal(String, Payload),
}

/// The result of an action on many instances.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BulkReport {
    /// How many instances were found to which it applies.
    pub found: usize,
    /// How many of them it was done to; none in a dry run.
    pub done: usize,
    /// Those that it was refused for, and why: they have ended meanwhile, say. The first 100.
    pub refused: Vec<(InstanceName, String)>,
    /// In a dry run: those that it would be done to. The first 100.
    pub named: Vec<InstanceName>,
}

type Progress = Box<dyn Fn(&BulkReport) + Send + Sync>;

/// An action on all instances that a filter finds and to which it applies: await it. Workers of their workflows do it.
///
/// ```
/// # use partitura_engine::{Client, ClientError, StatusKind};
/// # async fn example(client: Client) -> Result<(), ClientError> {
/// let stopped = client.instances().workflow("Checkout").status(StatusKind::Stopped);
/// let report = stopped.terminate("the product is gone").dry_run().await?;
/// println!("would end {} instances, {:?} among them", report.found, report.named);
/// let report = stopped.terminate("the product is gone").at_most(1_000).on_progress(|so_far| println!("{}", so_far.done));
/// println!("has ended {}", report.await?.done);
/// # Ok(()) }
/// ```
#[must_use = "nothing is done before this is awaited"]
pub struct Bulk {
    instances: Instances,
    act: Act,
    is_dry: bool,
    at_most: usize,
    /// Under which each signal counts once.
    id: Option<String>,
    progress: Option<Progress>,
}

impl Bulk {
    pub(crate) fn new(instances: Instances, act: Act) -> Self {
        Self { instances, act, is_dry: false, at_most: usize::MAX, id: None, progress: None }
    }

    /// Does nothing, and says to which instances it would be done.
    pub fn dry_run(mut self) -> Self {
        self.is_dry = true;
        self
    }

    /// Acts on this many instances at most.
    pub fn at_most(mut self, instances: usize) -> Self {
        self.at_most = instances;
        self
    }

    /// Names the signals: an instance that has had one of this id ignores another. So it may be done again that was
    /// interrupted. Nothing else needs a name.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Tells how far it has come, after every hundred instances or so.
    pub fn on_progress(mut self, tell: impl Fn(&BulkReport) + Send + Sync + 'static) -> Self {
        self.progress = Some(Box::new(tell));
        self
    }

    async fn run(self) -> Result<BulkReport, ClientError> {
        update::check(self.id.as_deref())?;
        let mut report = BulkReport::default();
        let mut page = self.instances.page(AT_ONCE).await?;
        loop {
            let found = page.instances.into_iter().filter(|found| self.act.applies(found));
            let found: Vec<Summary> = found.take(self.at_most - report.found).collect();
            report.found += found.len();
            if self.is_dry {
                let names = found.iter().map(|found| InstanceName::new(&*found.workflow, &*found.id));
                report.named.extend(names.take(NAMED.saturating_sub(report.named.len())));
            } else {
                self.act_on(found, &mut report).await?;
            }
            if let Some(tell) = &self.progress {
                tell(&report);
            }
            let Some(next) = page.next.filter(|_| report.found < self.at_most) else { return Ok(report) };
            page = self.instances.page_after(&next, AT_ONCE).await?;
        }
    }

    async fn act_on(&self, found: Vec<Summary>, report: &mut BulkReport) -> Result<(), ClientError> {
        let mut done = stream::iter(found)
            .map(|found| self.act.on(&self.instances, found, self.id.as_deref()))
            .buffer_unordered(AT_ONCE);
        while let Some((name, result)) = done.next().await {
            match result {
                Ok(()) => report.done += 1,
                Err(error @ (ClientError::NoAnswer { .. } | ClientError::Broker(_))) => return Err(error),
                Err(error) if report.refused.len() < NAMED => report.refused.push((name, error.to_string())),
                Err(_) => {}
            }
        }
        Ok(())
    }
}

impl Instances {
    fn all(&self, act: Act) -> Bulk {
        Bulk::new(self.clone(), act)
    }

    /// Sends a signal to those that have not ended, and waits until each has recorded it. The arguments of a handler
    /// are an object with its argument names; a channel takes any value.
    ///
    /// ```
    /// # use partitura_engine::{Client, ClientError};
    /// # async fn example(client: Client) -> Result<(), ClientError> {
    /// let europe = client.instances().workflow("Cart").tag("europe");
    /// let told = europe.signal_all("prices", &"they change at midnight")?.id("prices of May").await?;
    /// println!("told {} carts", told.done);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Payload`](ClientError::Payload) when the arguments cannot be encoded.
    pub fn signal_all(&self, name: impl Into<String>, arguments: &impl Serialize) -> Result<Bulk, ClientError> {
        Ok(self.all(Act::Signal(name.into(), Payload::encode_unproven(arguments)?)))
    }

    /// As [`signal_all`](Self::signal_all), to those of the workflow `W`, with a signal of its type.
    ///
    /// # Errors
    /// As for [`signal_all`](Self::signal_all).
    pub fn signal_all_of<W: Workflow>(&self, signal: Signal<W>) -> Result<Bulk, ClientError> {
        let (name, payload) = signal.into_parts()?;
        Ok(self.clone().workflow(W::NAME).all(Act::Signal(name, payload)))
    }

    /// [Cancels](InstanceHandle::cancel) those that have not ended.
    pub fn cancel(&self, reason: impl Into<String>) -> Bulk {
        self.all(Act::Cancel(reason.into()))
    }

    /// [Terminates](InstanceHandle::terminate) those that have not ended.
    pub fn terminate(&self, reason: impl Into<String>) -> Bulk {
        self.all(Act::Terminate(reason.into()))
    }

    /// [Deletes](InstanceHandle::delete) those that have ended.
    pub fn delete(&self) -> Bulk {
        self.all(Act::Delete)
    }

    /// [Pauses](InstanceHandle::pause) those that run or are stopped.
    pub fn pause(&self, reason: impl Into<String>) -> Bulk {
        self.all(Act::Pause(reason.into()))
    }

    /// [Resumes](InstanceHandle::resume) those that are paused or stopped.
    pub fn resume(&self, reason: impl Into<String>) -> Bulk {
        self.all(Act::Resume(reason.into()))
    }

    /// [Gives the last failed task this result](InstanceHandle::skip_task) of those that have failed. The type is that
    /// of the method's result, which is not checked here.
    ///
    /// ```
    /// # use partitura_engine::{Client, ClientError, StatusKind};
    /// # async fn example(client: Client) -> Result<(), ClientError> {
    /// let failed = client.instances().workflow("Checkout").status(StatusKind::Failed);
    /// let report = failed.skip_tasks(&"refunded by hand", "the acquirer has closed")?.dry_run().await?;
    /// println!("would go on with {} instances", report.found);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Payload`](ClientError::Payload) when the result cannot be encoded.
    pub fn skip_tasks(&self, result: &impl Serialize, reason: impl Into<String>) -> Result<Bulk, ClientError> {
        Ok(self.all(Act::Skip(Payload::encode_unproven(result)?, reason.into())))
    }

    /// [Runs the last failed task again](InstanceHandle::retry_task) of those that have failed.
    pub fn retry_tasks(&self, reason: impl Into<String>) -> Bulk {
        self.all(Act::Retry(reason.into()))
    }
}

impl Act {
    fn applies(&self, to: &Summary) -> bool {
        match self {
            Self::Cancel(_) | Self::Terminate(_) | Self::Signal(..) => !to.status.is_closed(),
            Self::Delete => to.status.is_closed(),
            Self::Pause(_) => matches!(to.status, Status::Running | Status::Stopped { .. }),
            Self::Resume(_) => matches!(to.status, Status::Paused { .. } | Status::Stopped { .. }),
            Self::Retry(_) | Self::Skip(..) => matches!(to.status, Status::Failed),
        }
    }

    async fn on(
        &self,
        instances: &Instances,
        found: Summary,
        id: Option<&str>,
    ) -> (InstanceName, Result<(), ClientError>) {
        let name = InstanceName::new(found.workflow, found.id);
        let handle = InstanceHandle::new(instances.connection.clone(), name.clone());
        let request = match self {
            Self::Cancel(reason) => handle.cancel(reason),
            Self::Terminate(reason) => handle.terminate(reason),
            Self::Delete => handle.delete(),
            Self::Pause(reason) => handle.pause(reason),
            Self::Resume(reason) => handle.resume().because(reason),
            Self::Signal(signal, payload) => match id {
                Some(id) => handle.signal(signal, payload).id(id),
                None => handle.signal(signal, payload),
            },
            Self::Retry(reason) => return (name, handle.retry_task(None, reason).await),
            Self::Skip(result, reason) => return (name, handle.skip_failed_task(result.clone(), reason).await),
        };
        let result = request.run(found.run).confirmed().await;
        (name, result)
    }
}

impl IntoFuture for Bulk {
    type Output = Result<BulkReport, ClientError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl fmt::Debug for Bulk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { instances, act, is_dry, at_most, id, .. } = self;
        let mut shown = f.debug_struct("Bulk");
        shown
            .field("instances", instances)
            .field("act", act)
            .field("is_dry", is_dry)
            .field("at_most", at_most)
            .field("id", id);
        shown.finish_non_exhaustive()
    }
}

//! Signals, cancellations, terminations and deletions.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;

use partitura_workflow::{Payload, PayloadError};

use super::connection::{Connection, answer_of, unexpected_of};
use crate::error::ClientError;
use crate::wire::names::check_id;
use crate::wire::{Command, ReplyBody, Request as Terms};

/// A request to an instance.
pub(crate) enum Demand {
    Signal(Result<(String, Payload), PayloadError>),
    Cancel(String),
    Terminate(String),
    Delete,
    Pause(String),
    Resume,
}

/// A signal, a cancellation or a termination about to be sent: await it.
///
/// ```no_run
/// # use partitura_engine::{ClientError, WorkflowHandle};
/// # use partitura_workflow::Workflow;
/// # async fn example<W: Workflow>(order: WorkflowHandle<W>) -> Result<(), ClientError> {
/// // Returns once it is durable.
/// order.cancel("out of stock").await?;
/// // Returns once the instance has recorded it, or says why it has no effect.
/// order.cancel("out of stock").confirmed().await?;
/// # Ok(()) }
/// ```
#[must_use = "nothing is sent before this is awaited"]
pub struct Request<'a, W = ()> {
    connection: &'a Connection,
    /// Workflow and id.
    instance: (&'a str, &'a str),
    demand: Demand,
    workflow: PhantomData<fn() -> W>,
    id: Option<String>,
    run: Option<String>,
    reason: Option<String>,
    confirmed: bool,
}

impl<'a, W> Request<'a, W> {
    pub(crate) fn new(connection: &'a Connection, instance: (&'a str, &'a str), demand: Demand) -> Self {
        Self {
            connection,
            instance,
            demand,
            workflow: PhantomData,
            id: None,
            run: None,
            reason: None,
            confirmed: false,
        }
    }

    /// Names it, for a sender who cannot tell whether it was sent before: a signal whose id the run has had already is
    /// ignored. Cancelling and terminating count once per run anyway; name the [run](Self::run) where a successor must
    /// not be hit. An id is 1 to 512 bytes of printable text.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Means this run only, and not one that has replaced it or was replaced by it.
    pub fn run(mut self, run: impl Into<String>) -> Self {
        self.run = Some(run.into());
        self
    }

    /// Says why it is resumed, for the history. All else that needs a reason has it.
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// Waits until the instance has taken it, for up to 30 seconds.
    ///
    /// Awaiting it then returns:
    /// * `Ok`: it is recorded. A stopped instance will read it when its code goes on. A signal whose [`id`](Self::id)
    ///   the run has had already is `Ok` too, also after the run has ended.
    /// * [`NotFound`](ClientError::NotFound), [`Ended`](ClientError::Ended), [`AnotherRun`](ClientError::AnotherRun):
    ///   it had no effect. A run that has ended by a cancellation or termination with the same reason counts as `Ok`,
    ///   so that one whose answer was lost can be sent again.
    /// * [`Refused`](ClientError::Refused): the code cannot read the signal, which is dropped.
    /// * [`NoAnswer`](ClientError::NoAnswer): no worker runs the workflow. It is durable, and takes effect when one
    ///   does.
    pub fn confirmed(mut self) -> Self {
        self.confirmed = true;
        self
    }

    async fn send(self) -> Result<(), ClientError> {
        let Self { connection, instance, demand, id, run, reason, confirmed, .. } = self;
        if let Some(id) = &id {
            check_id(id).map_err(ClientError::InvalidId)?;
        }
        let (reply_to, reply) = confirmed.then(|| connection.mailbox.request()).unzip();
        let request = Terms { id, run, reply_to };
        let command = match demand {
            Demand::Signal(signal) => {
                let (name, payload) = signal?;
                Command::Signal { name, payload, request }
            }
            Demand::Pause(reason) => Command::Pause { reason, request },
            Demand::Resume => Command::GoOn { reason, request },
            Demand::Cancel(reason) => Command::Cancel { reason: Some(reason), request },
            Demand::Terminate(reason) => Command::Terminate { reason, request },
            Demand::Delete => Command::Delete { request },
        };
        connection.send_to(instance, connection.fresh(), &command).await?;
        let Some(reply) = reply else { return Ok(()) };
        match answer_of(instance.0, reply).await? {
            ReplyBody::Accepted => Ok(()),
            other => Err(unexpected_of(instance, other)),
        }
    }
}

impl<'a, W: 'a> IntoFuture for Request<'a, W> {
    type Output = Result<(), ClientError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

impl<W> fmt::Debug for Request<'_, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { instance, id, run, confirmed, .. } = self;
        let mut shown = f.debug_struct("Request");
        shown.field("instance", instance).field("id", id).field("run", run).field("confirmed", confirmed);
        shown.finish_non_exhaustive()
    }
}

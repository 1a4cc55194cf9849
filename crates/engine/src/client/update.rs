//! Updates: sent until they are answered.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use partitura_workflow::{EventKind, Update, Workflow};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::connection::{Connection, REQUEST_TIMEOUT, unexpected};
use super::history;
use super::target::Target;
use crate::error::{ClientError, UpdateError};
use crate::wire::names::check_id;
use crate::wire::{Command, Outcome, ReplyBody, ReplyTo, Request};

/// After how long an update is sent again the first time, under the same id; then twice as long each time.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// An update about to be sent: await it.
///
/// ```no_run
/// # use partitura_engine::{UpdateError, WorkflowHandle};
/// # use partitura_workflow::{Never, Update, Workflow};
/// # async fn example<W: Workflow>(cart: WorkflowHandle<W>, add: Update<W, u32, Never>) -> Result<(), UpdateError<Never>> {
/// // Its sender may send it again under this id: it is applied once, and gives the same result.
/// let items = cart.update(add).id("request-17").await?;
/// # Ok(()) }
/// ```
#[must_use = "nothing is sent before this is awaited"]
pub struct UpdateRequest<'a, W, T, E> {
    target: &'a Target,
    update: Update<W, T, E>,
    id: Option<String>,
    run: Option<String>,
}

impl<'a, W, T, E> UpdateRequest<'a, W, T, E> {
    pub(crate) fn new(target: &'a Target, update: Update<W, T, E>) -> Self {
        Self { target, update, id: None, run: None }
    }

    /// Names it, for a sender who cannot tell whether it was sent before. An update whose id the run has had already is
    /// not applied again, and gives the result that it gave then, for as long as the instance is kept; a run that
    /// [continues as new](partitura_workflow::Cx::continue_as_new) knows the latest 256. An id is 1 to 512 bytes of
    /// printable text.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Means this run only, and not one that has replaced it or was replaced by it.
    pub fn run(mut self, run: impl Into<String>) -> Self {
        self.run = Some(run.into());
        self
    }
}

impl<W: Workflow, T: DeserializeOwned, E: DeserializeOwned> UpdateRequest<'_, W, T, E> {
    async fn send(self) -> Result<T, UpdateError<E>> {
        let Self { target, update, id, run } = self;
        check(id.as_deref())?;
        let (name, args) = update.into_parts().map_err(ClientError::from)?;
        let id = id.unwrap_or_else(|| target.connection.fresh());
        let command = |reply_to| {
            let request = Request { id: Some(id.clone()), run: run.clone(), reply_to: Some(reply_to) };
            Command::Update { name: name.clone(), args: args.clone(), request }
        };
        let body = until_answered(&target.connection, (W::NAME, &target.id), command).await?;
        result::<W, T, E>(target, &id, body).await
    }
}

pub(super) fn check(id: Option<&str>) -> Result<(), ClientError> {
    id.map_or(Ok(()), |id| check_id(id).map_err(ClientError::InvalidId))
}

/// Sends an update again and again, under its own id, until it is answered. Gives up only where no worker has taken it.
pub(super) async fn until_answered(
    connection: &Connection,
    instance: (&str, &str),
    command: impl Fn(ReplyTo) -> Command,
) -> Result<ReplyBody, ClientError> {
    let (mut line, mut hopeless) = (connection.mailbox.line(), connection.hopeless.of(instance));
    let (mut patience, mut waited, mut is_accepted) = (ASK_AGAIN, Duration::ZERO, false);
    while is_accepted || waited < REQUEST_TIMEOUT {
        if !is_accepted {
            patience = patience.min(REQUEST_TIMEOUT - waited);
        }
        connection.send_to(instance, connection.fresh(), &command(line.address().clone())).await?;
        let until = Instant::now() + patience;
        loop {
            let answer = tokio::select! {
                biased;
                answer = tokio::time::timeout_at(until, line.next()) => answer,
                never = &mut hopeless => match never {},
            };
            match answer {
                // Its handler has begun.
                Ok(ReplyBody::Accepted) => is_accepted = true,
                Ok(body) => return Ok(body),
                Err(_) => break,
            }
        }
        waited += patience;
        patience = (2 * patience).min(connection.ask_again);
    }
    Err(ClientError::NoAnswer { workflow: instance.0.to_owned(), waited: REQUEST_TIMEOUT })
}

/// Gives the result of an update to its caller.
pub(super) async fn result<W: Workflow, T: DeserializeOwned, E: DeserializeOwned>(
    target: &Target,
    id: &str,
    body: ReplyBody,
) -> Result<T, UpdateError<E>> {
    let outcome = match body {
        ReplyBody::Updated(outcome) => outcome,
        ReplyBody::Invalid(failure) => return Err(UpdateError::from_failure(failure, UpdateError::Rejected)),
        ReplyBody::Interrupted { run } => return Err(UpdateError::Interrupted { run }),
        ReplyBody::Stopped { reason } => return Err(UpdateError::Stopped { reason }),
        // A result that is too large for one reply is in the history, which comes in parts.
        ReplyBody::TooLarge { .. } => match from_history::<W>(target, id).await? {
            Some(outcome) => outcome,
            None => return Err(unexpected::<W>(&target.id, body).into()),
        },
        other => return Err(unexpected::<W>(&target.id, other).into()),
    };
    match outcome {
        Outcome::Ok(result) => result.decode().map_err(|error| UpdateError::Unknown(error.to_string())),
        Outcome::Err(failure) => Err(UpdateError::from_failure(failure, UpdateError::Failed)),
    }
}

async fn from_history<W: Workflow>(target: &Target, id: &str) -> Result<Option<Outcome>, ClientError> {
    let history = history::read::<W>(target).await?;
    Ok(history.into_iter().rev().find_map(|event| match event.kind {
        EventKind::UpdateCompleted { id: of, result } if of == id => Some(Outcome::Ok(result)),
        EventKind::UpdateFailed { id: of, failure } if of == id => Some(Outcome::Err(failure)),
        _ => None,
    }))
}

impl<'a, W, T, E> IntoFuture for UpdateRequest<'a, W, T, E>
where
    W: Workflow,
    T: DeserializeOwned + Send + 'a,
    E: DeserializeOwned + Send + 'a,
{
    type Output = Result<T, UpdateError<E>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

impl<W, T, E> fmt::Debug for UpdateRequest<'_, W, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, update, id, run } = self;
        let mut shown = f.debug_struct("UpdateRequest");
        shown.field("instance", target).field("update", update).field("id", id).field("run", run).finish()
    }
}

//! Results and heartbeats of delegated tasks, by their tokens.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;

use partitura_workflow::{Payload, PayloadError};

use super::connection::{Connection, answer_of, unexpected_of};
use crate::error::ClientError;
use crate::wire::token::TaskToken;
use crate::wire::{Command, Completion as Terms, Outcome, ReplyBody};

/// The result of a delegated task, about to be sent: await it.
#[must_use = "nothing is sent before this is awaited"]
pub struct Completion<'a> {
    connection: &'a Connection,
    token: TaskToken,
    outcome: Result<Outcome, PayloadError>,
    confirmed: bool,
}

impl<'a> Completion<'a> {
    pub(crate) fn new(connection: &'a Connection, token: TaskToken, outcome: Result<Outcome, PayloadError>) -> Self {
        Self { connection, token, outcome, confirmed: false }
    }

    /// Waits until the instance has taken the result, for up to 30 seconds.
    ///
    /// Awaiting it then returns:
    /// * `Ok`: it is recorded. Nobody else completes the task.
    /// * [`TokenRefused`](ClientError::TokenRefused) with the reason, [`NotFound`](ClientError::NotFound),
    ///   [`Ended`](ClientError::Ended), [`AnotherRun`](ClientError::AnotherRun): it had no effect. A sender who did not
    ///   get the answer to an earlier completion finds the task completed.
    /// * [`NoAnswer`](ClientError::NoAnswer): no worker runs the workflow. It is durable, and takes effect when one
    ///   does.
    pub fn confirmed(mut self) -> Self {
        self.confirmed = true;
        self
    }

    async fn send(self) -> Result<(), ClientError> {
        let Self { connection, token, outcome, confirmed } = self;
        let (reply_to, reply) = confirmed.then(|| connection.mailbox.request()).unzip();
        let (run, completion) = (token.run.clone(), Some(Terms { reply_to }));
        let done = Command::TaskDone { run, seq: token.seq, attempts: token.attempt, outcome: outcome?, completion };
        connection.send_to((&token.workflow, &token.id), connection.fresh(), &done).await?;
        match reply {
            Some(reply) => accepted(&token, answer_of(&token.workflow, reply).await?),
            None => Ok(()),
        }
    }
}

impl<'a> IntoFuture for Completion<'a> {
    type Output = Result<(), ClientError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

impl fmt::Debug for Completion<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { token, confirmed, .. } = self;
        f.debug_struct("Completion").field("token", token).field("confirmed", confirmed).finish_non_exhaustive()
    }
}

/// Says that a task is still worked on.
pub(super) async fn heartbeat(connection: &Connection, token: &TaskToken, details: Payload) -> Result<(), ClientError> {
    let (reply_to, reply) = connection.mailbox.request();
    let (run, seq, attempt, details) = (token.run.clone(), token.seq, token.attempt, Some(details));
    let beat = Command::Heartbeat { run, seq, attempt, details, alive: true, by_token: true, held_up: None, reply_to };
    connection.send_to((&token.workflow, &token.id), connection.fresh(), &beat).await?;
    accepted(token, answer_of(&token.workflow, reply).await?)
}

fn accepted(token: &TaskToken, body: ReplyBody) -> Result<(), ClientError> {
    match body {
        ReplyBody::Accepted => Ok(()),
        ReplyBody::TokenRefused(reason) => Err(ClientError::TokenRefused { token: Box::new(token.clone()), reason }),
        other => Err(unexpected_of((&token.workflow, &token.id), other)),
    }
}

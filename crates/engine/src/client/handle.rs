use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use partitura_workflow::{Event, Payload, Query, Signal, Update, Workflow};
use serde::de::DeserializeOwned;

use super::connection::{Connection, closed, unexpected};
use super::history;
use super::requests::{Demand, Request};
use super::start::Start;
use super::target::Target;
use super::update::UpdateRequest;
#[cfg(doc)]
use crate::error::UpdateError;
use crate::error::{ClientError, WorkflowError};
use crate::wire::summary::Summary;
use crate::wire::{Command, Outcome, ReplyBody};

/// After how long an outcome is asked for again the first time; then twice as long each time, up to the limit that is
/// set.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// How long an instance must be stopped before those who wait for its outcome are told.
const MOMENT: Duration = Duration::from_secs(2);

/// One instance of the workflow `W`, named by its id.
///
/// Cheap to clone.
pub struct WorkflowHandle<W> {
    target: Target,
    workflow: PhantomData<fn() -> W>,
}

impl<W> WorkflowHandle<W> {
    pub(crate) fn new(connection: Arc<Connection>, id: String) -> Self {
        Self { target: Target::new(connection, id), workflow: PhantomData }
    }
}

impl<W> Clone for WorkflowHandle<W> {
    fn clone(&self) -> Self {
        Self { target: self.target.clone(), workflow: PhantomData }
    }
}

impl<W: Workflow> std::fmt::Debug for WorkflowHandle<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkflowHandle")
            .field("workflow", &W::NAME)
            .field("id", &self.target.id)
            .finish_non_exhaustive()
    }
}

impl<W: Workflow> WorkflowHandle<W> {
    /// The instance's id.
    pub fn id(&self) -> &str {
        &self.target.id
    }

    fn request(&self, demand: Demand) -> Request<'_, W> {
        Request::new(&self.target.connection, (W::NAME, &self.target.id), demand)
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
        Start::new(&self.target, input)
    }

    /// Waits for the outcome, however long it takes, and whichever worker is killed meanwhile. After a [delayed
    /// start](Start::after) by this handle it also waits until the instance begins.
    ///
    /// While the instance is stopped, because its code cannot go on, this is an error: within about two seconds of the
    /// stop, also for those who wait since the start. To wait until it is repaired, call
    /// [`result_through_stops`](Self::result_through_stops).
    ///
    /// # Errors
    /// How the workflow ended, if not with a result; [`Stopped`](WorkflowError::Stopped) with the reason, while it
    /// cannot go on. [`Client`](WorkflowError::Client) when that could not be learned.
    ///
    /// # Cancel safety
    /// Safe; ask again at any time.
    pub async fn result(&self) -> Result<W::Output, WorkflowError<W::Error>> {
        self.outcome(true).await
    }

    /// Waits for the outcome as [`result`](Self::result) does, and goes on waiting while the instance is stopped, until
    /// somebody repairs or ends it.
    ///
    /// # Errors
    /// How the workflow ended, if not with a result. [`Client`](WorkflowError::Client) when that could not be learned.
    ///
    /// # Cancel safety
    /// Safe; ask again at any time.
    pub async fn result_through_stops(&self) -> Result<W::Output, WorkflowError<W::Error>> {
        self.outcome(false).await
    }

    async fn outcome(&self, stops: bool) -> Result<W::Output, WorkflowError<W::Error>> {
        let mut pending = self.target.pending().outcome.take();
        let (begins_in, mut begins) = (self.target.begins_in(), self.target.pending().begins);
        let mut patience = begins_in.map_or(ASK_AGAIN, |wait| wait.saturating_add(ASK_AGAIN));
        if pending.is_none() && begins_in.is_some() {
            // An earlier call was dropped, and there is no instance to ask yet.
            tokio::time::sleep(patience).await;
            patience = ASK_AGAIN;
        }
        let mut was_stopped = false;
        let outcome = loop {
            let reply = match pending.take() {
                Some(reply) => reply,
                None => self.target.ask_for_outcome::<W>(stops, begins).await?,
            };
            match tokio::time::timeout(patience, reply).await {
                Ok(Some(ReplyBody::Ended(outcome))) => break outcome,
                // A result that is too large for one reply is in the history, which comes in parts.
                Ok(Some(ReplyBody::TooLarge { .. })) => {
                    let history = self.history().await?;
                    let end = history.last().and_then(|event| Outcome::of_end(&event.kind));
                    break end.ok_or_else(|| unexpected::<W>(&self.target.id, ReplyBody::NotFound))?;
                }
                // It may be repaired already: workers that start try it at once.
                Ok(Some(ReplyBody::Stopped { reason })) => {
                    begins = None;
                    if stops && was_stopped {
                        return Err(WorkflowError::Stopped { reason });
                    }
                    was_stopped = true;
                    tokio::time::sleep(MOMENT).await;
                }
                // The start was falling due, so that the question may have found it on its way.
                Ok(Some(ReplyBody::NotFound)) if begins.take().is_some() => tokio::time::sleep(MOMENT).await,
                Ok(Some(other)) => return Err(unexpected::<W>(&self.target.id, other).into()),
                Ok(None) => return Err(ClientError::from(closed()).into()),
                Err(_) => {
                    was_stopped = false;
                    patience = (patience * 2).min(self.target.connection.ask_again);
                }
            }
        };
        match outcome {
            Outcome::Ok(result) => result.decode().map_err(|error| ClientError::from(error).into()),
            Outcome::Err(failure) => Err(WorkflowError::from_failure(failure)),
        }
    }

    /// Sends a signal. It is kept, also when the workflow does not wait for it yet.
    ///
    /// Awaiting returns once the signal is durable. One to an instance that does not exist, or has ended, has no
    /// effect; ask for an answer with [`confirmed`](Request::confirmed). Sent again under the same [`id`](Request::id),
    /// it counts once.
    ///
    /// # Errors
    /// [`Payload`](ClientError::Payload) when the arguments cannot be encoded; [`TooLarge`](ClientError::TooLarge);
    /// those of the broker.
    ///
    /// # Cancel safety
    /// Dropped while awaited, the signal may or may not have been sent.
    pub fn signal(&self, signal: Signal<W>) -> Request<'_, W> {
        self.request(Demand::Signal(signal.into_parts()))
    }

    /// Changes the running workflow, and gives what the handler of the update returned.
    ///
    /// The update is recorded in the history before it is answered, and applied exactly once: the client asks again
    /// until it is answered, also when workers crash meanwhile. Sent again under the same [`id`](UpdateRequest::id), it
    /// gives the same result, also after the instance has ended.
    ///
    /// # Errors
    /// [`UpdateError`]: [`Rejected`](UpdateError::Rejected) by the validator, [`Failed`](UpdateError::Failed) with the
    /// handler's own error; [`Client`](UpdateError::Client) with [`NotFound`](ClientError::NotFound),
    /// [`Ended`](ClientError::Ended), [`Refused`](ClientError::Refused) (an update that the worker's build does not
    /// know or cannot read, a handler that panics), [`NoAnswer`](ClientError::NoAnswer), and those of sending.
    ///
    /// # Cancel safety
    /// Dropped while awaited, the update may or may not have been applied. Send it again under an id of its own.
    pub fn update<T, E>(&self, update: Update<W, T, E>) -> UpdateRequest<'_, W, T, E> {
        UpdateRequest::new(&self.target, update)
    }

    /// Asks the workflow something; it is not changed by that.
    ///
    /// One that has ended answers with the state in which it ended, for as long as its history is kept: a worker
    /// replays that for each question.
    ///
    /// # Errors
    /// [`NotFound`](ClientError::NotFound); [`Refused`](ClientError::Refused) with the reason (unknown query, stopped,
    /// paused, ended under code that goes another way today); [`NoAnswer`](ClientError::NoAnswer).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn query<R: DeserializeOwned>(&self, query: Query<W, R>) -> Result<R, ClientError> {
        let (name, args) = query.into_parts()?;
        match self
            .target
            .connection
            .ask::<W>(&self.target.id, |reply_to| Command::Query { name, args, reply_to })
            .await?
        {
            ReplyBody::Answer(answer) => Ok(Payload::decode(&answer)?),
            other => Err(unexpected::<W>(&self.target.id, other)),
        }
    }

    /// Asks the workflow to stop: whatever it awaits resolves as cancelled, and its code decides what to undo.
    ///
    /// Awaiting returns once the request is durable; ask for an answer with [`confirmed`](Request::confirmed). A run is
    /// cancelled once, however often that is asked for.
    ///
    /// The code of a *stopped* instance is tried at once. If it goes on, it has read what was kept for it, and is
    /// cancelled behind that. If it still cannot, the request is recorded, which `confirmed` answers with `Ok`, and
    /// takes effect in the turn in which the code goes on: nothing is skipped that the code would undo. To end an
    /// instance without its code, and without compensations, [terminate](Self::terminate) it. A signal whose *handler
    /// panics* holds a cancellation up for less than a second: it is tried five times and then refused, and what comes
    /// behind it takes effect.
    ///
    /// # Errors
    /// Those of the broker.
    ///
    /// # Cancel safety
    /// Dropped while awaited, the request may or may not have been sent.
    pub fn cancel(&self, reason: impl Into<String>) -> Request<'_, W> {
        self.request(Demand::Cancel(reason.into()))
    }

    /// Ends the workflow at once, without running any more of its code: nothing is compensated.
    ///
    /// Awaiting returns once the request is durable; ask for an answer with [`confirmed`](Request::confirmed).
    ///
    /// # Errors
    /// Those of the broker.
    ///
    /// # Cancel safety
    /// Dropped while awaited, the request may or may not have been sent.
    pub fn terminate(&self, reason: impl Into<String>) -> Request<'_, W> {
        self.request(Demand::Terminate(reason.into()))
    }

    /// Deletes the instance, which must have ended, before its [time](crate::Retention) is over: its summary, its
    /// result and the histories of all its runs. Its id is free then, as if it had never been used.
    ///
    /// Awaiting returns once the request is durable; ask for an answer with [`confirmed`](Request::confirmed), which is
    /// [`Refused`](ClientError::Refused) for an instance that has not ended.
    ///
    /// # Errors
    /// Those of the broker.
    ///
    /// # Cancel safety
    /// Dropped while awaited, the request may or may not have been sent.
    pub fn delete(&self) -> Request<'_, W> {
        self.request(Demand::Delete)
    }

    /// Pauses the instance: its code does not run until it is [resumed](Self::resume). Messages that arrive meanwhile
    /// are kept: results, timers that are due, signals, a cancellation, which takes effect when it is resumed. Tasks
    /// and steps that run go on. Those who await its result wait on, and its queries are refused. Its time-out is not
    /// held up, and it may be terminated.
    ///
    /// Awaiting returns once the request is durable; ask for an answer with [`confirmed`](Request::confirmed).
    ///
    /// # Errors
    /// Those of the broker.
    ///
    /// # Cancel safety
    /// Dropped while awaited, the request may or may not have been sent.
    pub fn pause(&self, reason: impl Into<String>) -> Request<'_, W> {
        self.request(Demand::Pause(reason.into()))
    }

    /// Lets a paused instance go on, and tries a stopped one again, now: that does so by itself from time to time. With
    /// [`confirmed`](Request::confirmed) it is [`Refused`](ClientError::Refused) if the code still cannot go on.
    ///
    /// # Errors
    /// Those of the broker.
    ///
    /// # Cancel safety
    /// Dropped while awaited, the request may or may not have been sent.
    pub fn resume(&self) -> Request<'_, W> {
        self.request(Demand::Resume)
    }

    /// Where the instance stands, and what it waits for. It is answered also while code of the instance does not come
    /// back, for longer than a second before the question: [`Summary::held_up`] names the code then.
    ///
    /// # Errors
    /// [`NotFound`](ClientError::NotFound), [`NoAnswer`](ClientError::NoAnswer); those of the broker.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn describe(&self) -> Result<Summary, ClientError> {
        match self.target.connection.ask::<W>(&self.target.id, |reply_to| Command::Describe { reply_to }).await? {
            ReplyBody::Description(summary) => Ok(*summary),
            other => Err(unexpected::<W>(&self.target.id, other)),
        }
    }

    /// Everything that happened to the instance's latest run, read page by page, however long it is.
    ///
    /// # Errors
    /// [`NotFound`](ClientError::NotFound), [`NoAnswer`](ClientError::NoAnswer); those of the broker.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn history(&self) -> Result<Vec<Event>, ClientError> {
        history::read::<W>(&self.target).await
    }
}

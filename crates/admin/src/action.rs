//! The actions of an operator on an instance, and their records.

use partitura_engine::{BulkReport, InstanceFilter, StartPolicy, StartReceipt};
use partitura_workflow::Payload;

use crate::admin::Admin;
use crate::error::AdminError;

/// Something to be done to an instance.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Action {
    /// Send a signal.
    Signal {
        /// Its name.
        name: String,
        /// Its arguments.
        arguments: Payload,
    },
    /// Ask it to end, for this reason.
    Cancel(String),
    /// End it at once, for this reason.
    Terminate(String),
    /// Let none of its code run until it is resumed, for this reason.
    Pause(String),
    /// Try what is stopped again now, and let go on what is paused; the reason may be empty.
    Resume(String),
    /// Run the tasks again that have failed for good, for this reason.
    Retry(String),
    /// Delete it, which must have ended.
    Delete,
}

impl Action {
    /// A signal with arguments as JSON; none if the text is empty.
    ///
    /// # Errors
    /// [`Refused`](AdminError::Refused): there is no name, or the text is not JSON.
    pub fn signal(name: &str, json: &str) -> Result<Self, AdminError> {
        if name.is_empty() {
            return Err(AdminError::Refused("a signal has a name".to_owned()));
        }
        Ok(Self::Signal { name: name.to_owned(), arguments: arguments(json)? })
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Signal { .. } => "signal",
            Self::Cancel(_) => "cancel",
            Self::Terminate(_) => "terminate",
            Self::Pause(_) => "pause",
            Self::Resume(_) => "resume",
            Self::Retry(_) => "retry",
            Self::Delete => "delete",
        }
    }

    /// The text of the record beside the action's name: never a payload.
    fn detail(&self) -> &str {
        match self {
            Self::Signal { name: detail, .. }
            | Self::Cancel(detail)
            | Self::Terminate(detail)
            | Self::Pause(detail)
            | Self::Resume(detail)
            | Self::Retry(detail) => detail,
            Self::Delete => "",
        }
    }
}

/// A value that was typed as JSON; `null` if nothing was.
///
/// # Errors
/// [`Refused`](AdminError::Refused): it is not JSON.
pub fn arguments(json: &str) -> Result<Payload, AdminError> {
    match json.trim() {
        "" => Ok(Payload::null()),
        json => Payload::from_json(json).map_err(|error| AdminError::Refused(format!("not JSON: {error}"))),
    }
}

impl Admin {
    /// Does it, waits until the instance has taken it, and leaves a record with the target `partitura::audit`: who,
    /// what, to which instance, why, with which outcome. With a run, another run of the instance is not meant.
    ///
    /// # Errors
    /// [`NotFound`](AdminError::NotFound); [`Refused`](AdminError::Refused), with the reason; those of the broker.
    ///
    /// # Cancel safety
    /// Dropped, it may or may not have been sent, and there may be no record.
    pub async fn act(
        &self,
        who: &str,
        (workflow, id, run): (&str, &str, Option<&str>),
        action: Action,
    ) -> Result<(), AdminError> {
        let (name, detail) = (action.name(), action.detail().to_owned());
        let done = self.carry_out(workflow, id, run, action).await;
        let outcome = done.as_ref().map_or_else(ToString::to_string, |()| "done".to_owned());
        tracing::info!(target: "partitura::audit", who, action = name, workflow, id, run, detail, outcome);
        done
    }

    /// Does it to all instances that the filter finds and to which it applies, up to `at_most`, and leaves one record
    /// of that. A dry run does nothing and leaves none.
    ///
    /// # Errors
    /// [`Refused`](AdminError::Refused): a signal is sent to one instance, or no worker answers; those of the broker.
    ///
    /// # Cancel safety
    /// Dropped, it is done to some, and there is no record.
    pub async fn act_on_all(
        &self,
        who: &str,
        filter: InstanceFilter,
        action: Action,
        (at_most, is_dry): (usize, bool),
    ) -> Result<BulkReport, AdminError> {
        let (name, detail) = (action.name(), action.detail().to_owned());
        let found = self.partitura.client().instances().matching(filter.clone());
        let bulk = match action {
            Action::Cancel(reason) => found.cancel(reason),
            Action::Terminate(reason) => found.terminate(reason),
            Action::Pause(reason) => found.pause(reason),
            Action::Resume(reason) => found.resume(reason),
            Action::Retry(reason) => found.retry_tasks(reason),
            Action::Delete => found.delete(),
            Action::Signal { .. } => {
                return Err(AdminError::Refused("a signal is sent to one instance at a time".to_owned()));
            }
        };
        let bulk = bulk.at_most(at_most);
        if is_dry {
            return Ok(bulk.dry_run().await?);
        }
        let done = bulk.await.map_err(AdminError::from);
        let outcome = done.as_ref().map_or_else(ToString::to_string, |report| format!("done: {}", report.done));
        tracing::info!(target: "partitura::audit", who, action = name, ?filter, detail, outcome);
        done
    }

    /// Starts an instance, waits until a worker has taken that, and leaves a record as [`act`](Self::act) does.
    ///
    /// # Errors
    /// [`Refused`](AdminError::Refused): there is one and the policy refuses it, or no worker answers; those of the
    /// broker.
    ///
    /// # Cancel safety
    /// Dropped, it may or may not have been started. Starting again is harmless.
    pub async fn start(
        &self,
        who: &str,
        (workflow, id): (&str, &str),
        input: Payload,
        tags: Vec<String>,
        policy: StartPolicy,
    ) -> Result<StartReceipt, AdminError> {
        let started = self.partitura.client().instance(workflow, id).start(input, tags, policy).await;
        let started = started.map_err(AdminError::from);
        let outcome = started.as_ref().map_or_else(ToString::to_string, |started| format!("run {}", started.run));
        tracing::info!(target: "partitura::audit", who, action = "start", workflow, id, outcome);
        started
    }

    /// Updates an instance, gives the result, and leaves a record as [`act`](Self::act) does. An update of an id that
    /// the instance has had already gives the result that it gave then.
    ///
    /// # Errors
    /// [`Refused`](AdminError::Refused), with the reason; those of the broker.
    ///
    /// # Cancel safety
    /// Dropped, it may or may not be applied, and there may be no record.
    pub async fn update(
        &self,
        who: &str,
        (workflow, id): (&str, &str),
        (name, arguments): (&str, &Payload),
        update_id: Option<String>,
    ) -> Result<Payload, AdminError> {
        let updated = self.partitura.client().instance(workflow, id).update(name, arguments, update_id).await;
        let updated = updated.map_err(AdminError::from);
        let outcome = updated.as_ref().map_or_else(ToString::to_string, |_| "done".to_owned());
        tracing::info!(target: "partitura::audit", who, action = "update", workflow, id, detail = name, outcome);
        updated
    }

    /// Begins an instance of another id with the first `events` events of this one, or with all, and leaves a record as
    /// [`act`](Self::act) does.
    ///
    /// # Errors
    /// [`Refused`](AdminError::Refused): today's code does not go on from there, or there is an instance of that id;
    /// [`NotFound`](AdminError::NotFound); those of the broker.
    ///
    /// # Cancel safety
    /// Dropped, it may or may not take effect, and there may be no record.
    pub async fn fork(
        &self,
        who: &str,
        (workflow, id): (&str, &str),
        (fork, events): (&str, Option<usize>),
        reason: &str,
    ) -> Result<(), AdminError> {
        let forked = async {
            let handle = self.partitura.client().instance(workflow, id);
            let events = match events {
                Some(events) => events,
                None => handle.history(0, 0).await?.total,
            };
            Ok(handle.fork(fork, events, reason).await.map(drop)?)
        };
        let forked: Result<(), AdminError> = forked.await;
        let outcome = forked.as_ref().map_or_else(ToString::to_string, |()| format!("forked as {fork}"));
        tracing::info!(target: "partitura::audit", who, action = "fork", workflow, id, detail = reason, outcome);
        forked
    }

    async fn carry_out(&self, workflow: &str, id: &str, run: Option<&str>, action: Action) -> Result<(), AdminError> {
        let handle = self.partitura.client().instance(workflow, id);
        let request = match &action {
            Action::Signal { name, arguments } => handle.signal(name, arguments),
            Action::Cancel(reason) => handle.cancel(reason),
            Action::Terminate(reason) => handle.terminate(reason),
            Action::Delete => handle.delete(),
            Action::Pause(reason) => handle.pause(reason),
            Action::Resume(reason) if reason.is_empty() => handle.resume(),
            Action::Resume(reason) => handle.resume().because(reason),
            Action::Retry(reason) => return Ok(handle.retry_task(None, reason).await?),
        };
        let request = match run {
            Some(run) => request.run(run),
            None => request,
        };
        Ok(request.confirmed().await?)
    }
}

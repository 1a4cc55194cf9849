//! Pauses of workflows, services and methods, and their ends.

use std::time::Duration;

use partitura_broker::{Error, ErrorKind, Expect, Result as BrokerResult};

use super::Client;
use crate::error::ClientError;
use crate::messaging::directory::Destination;
use crate::storage::pauses::{self, HEEDED_WITHIN, Pausable, Paused};
use crate::storage::{history, served};
use crate::wire::summary::{StatusKind, Summary};
use crate::wire::{self, Command};

/// How many instances are asked to go on at a time.
const AT_ONCE: usize = 100;
/// Workers read once more after this time what is paused.
const SETTLED: Duration = HEEDED_WITHIN;

/// The answer to a [pause](Client::pause).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PauseReceipt {
    /// Whether a worker has ever served a workflow or a service of this name. If not, the name may be mistyped, or its
    /// first worker is yet to start, and will heed the pause. The names of methods are not known.
    pub is_known: bool,
}

impl Client {
    /// Pauses all instances of a workflow, all tasks of a service, or those of one method, for a reason that people
    /// read: an outside system is down, say, or a fault was found. Messages that arrive are kept. Pausing what is
    /// paused changes the reason.
    ///
    /// * **Tasks** that run go on. No attempt begins: not of new calls, not of those that are tried again. They wait in
    ///   the broker, and a few in the workers. The workflows that call them wait.
    /// * **Instances** whose code would run are paused when something next arrives for them, with the reason in their
    ///   histories and descriptions: what arrives is recorded, and their code sees it when they go on. New ones are
    ///   recorded, and begin then. They can be described, terminated and deleted meanwhile; what needs code is refused:
    ///   queries, updates, resets, their own resumption.
    /// * **Deadlines** are not moved: timers come due and are recorded; time-outs of runs, the
    ///   [overall](partitura_workflow::TaskOptions::overall_timeout) and the start time-outs of tasks go on. The
    ///   time-out of a task's run begins with the run.
    ///
    /// When this returns, all workers heed it that can read the store: each reads there what is paused before it begins
    /// something, at most once in 2 seconds, and nothing while it has nothing to do. This takes as long. A worker that
    /// only runs services needs the [store](crate::Builder::store) for this, unless its broker has transactions.
    ///
    /// ```no_run
    /// # use partitura_engine::{Client, ClientError, Pausable};
    /// # async fn example(client: Client) -> Result<(), ClientError> {
    /// let charges: Pausable = "service/Payments/charge".parse().expect("a name");
    /// let receipt = client.pause(&charges, "the acquirer is down").await?;
    /// if !receipt.is_known {
    ///     println!("no worker has served the service Payments yet: is that its name?");
    /// }
    /// for paused in client.pauses().await? {
    ///     println!("{} is paused: {}", paused.what, paused.reason);
    /// }
    /// client.resume(&charges).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Broker`](ClientError::Broker): a name that none can have, a connection without a store, those of the store.
    ///
    /// # Cancel safety
    /// Dropped, it may or may not be paused. Pausing again is harmless.
    pub async fn pause(&self, what: &Pausable, reason: impl Into<String>) -> Result<PauseReceipt, ClientError> {
        self.check_name(what)?;
        let since = self.0.clock.now().as_millis();
        let paused = Paused { what: what.clone(), reason: reason.into(), since, is_ending: false };
        pauses::put(&self.0.stored, &paused, Expect::Any).await?;
        // A pause is not taken back since that could not be read.
        let known = async { self.is_known(what).await.unwrap_or(true) };
        let (is_known, ()) = tokio::join!(known, tokio::time::sleep(SETTLED));
        Ok(PauseReceipt { is_known })
    }

    /// Lets go on what is [paused](Self::pause), and says how many instances were asked to. Instances that were paused
    /// themselves stay so. A thing that is not paused is not changed.
    ///
    /// # Errors
    /// [`Broker`](ClientError::Broker): a connection without a store; those of the broker and of the store.
    /// [`Refused`](ClientError::Refused): somebody else has paused or resumed it meanwhile.
    ///
    /// # Cancel safety
    /// Dropped, some instances may have gone on, and the others do when something arrives for them. Until it is resumed
    /// again, the pause is [listed](Self::pauses) as one that [ends](Paused::is_ending).
    pub async fn resume(&self, what: &Pausable) -> Result<usize, ClientError> {
        self.check_name(what)?;
        let stored = &self.0.stored;
        let Some((mut version, paused)) = pauses::get(stored, what).await? else { return Ok(0) };
        let mut asked = 0;
        if let Pausable::Workflow(workflow) = what {
            let ending = Paused { is_ending: true, ..paused };
            pauses::put(stored, &ending, Expect::Version(version)).await.map_err(|error| changed(what, error))?;
            version = match pauses::get(stored, what).await? {
                Some((version, paused)) if paused.is_ending => version,
                _ => return Err(was_changed(what)),
            };
            tokio::time::sleep(SETTLED).await;
            asked = self.ask_held(workflow).await?;
        }
        pauses::remove(stored, what, version).await.map_err(|error| changed(what, error))?;
        Ok(asked)
    }

    /// The pauses now: workflows, services and methods. Instances that are paused by themselves are found by
    /// [`instances`](Self::instances).
    ///
    /// # Errors
    /// [`Broker`](ClientError::Broker): a connection without a store; those of the store.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn pauses(&self) -> Result<Vec<Paused>, ClientError> {
        Ok(pauses::all(&self.0.stored).await?)
    }

    fn check_name(&self, what: &Pausable) -> Result<(), ClientError> {
        match what {
            Pausable::Workflow(name) => self.0.directory.workflow(name).map(drop)?,
            Pausable::Service(service) | Pausable::Method { service, .. } => {
                self.0.directory.service(service).map(drop)?;
            }
        }
        Ok(())
    }

    /// Whether a worker has served it, or there is an instance of it: workers of before left no other trace.
    async fn is_known(&self, what: &Pausable) -> Result<bool, ClientError> {
        let stored = &self.0.stored;
        let (destination, workflow) = match what {
            Pausable::Workflow(name) => (Destination::Workflow(name.clone()), Some(name)),
            Pausable::Service(service) | Pausable::Method { service, .. } => {
                (Destination::Service(service.clone()), None)
            }
        };
        if served::is_known(stored, &destination).await? {
            return Ok(true);
        }
        match workflow {
            Some(name) => Ok(history::has_instances(stored, name).await?),
            None => Ok(false),
        }
    }

    /// Asks all instances to go on that are paused with their workflow.
    async fn ask_held(&self, workflow: &str) -> Result<usize, ClientError> {
        let found = self.instances().workflow(workflow).status(StatusKind::Paused);
        let (mut asked, mut page) = (0, found.page(AT_ONCE).await?);
        loop {
            let held: Vec<&Summary> = page.instances.iter().filter(|summary| summary.is_held()).collect();
            asked += held.len();
            self.ask_all(workflow, &held).await?;
            let Some(next) = page.next else { return Ok(asked) };
            page = found.page_after(&next, AT_ONCE).await?;
        }
    }

    async fn ask_all(&self, workflow: &str, held: &[&Summary]) -> Result<(), ClientError> {
        let (topic, payloads) = (self.0.directory.workflow(workflow)?.commands, self.0.directory.payloads());
        let resume =
            |summary: &&Summary| wire::command(payloads, &topic, &summary.id, self.0.fresh(), &Command::Resume);
        let results = self.0.producer.publish(held.iter().map(resume).collect()).await;
        Ok(results.into_iter().collect::<BrokerResult<Vec<_>>>().map(drop)?)
    }
}

fn changed(what: &Pausable, error: Error) -> ClientError {
    if error.kind() == ErrorKind::Conflict { was_changed(what) } else { error.into() }
}

fn was_changed(what: &Pausable) -> ClientError {
    ClientError::Refused(format!("{what}: somebody else has paused or resumed it meanwhile; look again"))
}

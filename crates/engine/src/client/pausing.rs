//! Pauses of workflows, services and methods, and their ends.

use std::time::Duration;

use partitura_broker::{Error, ErrorKind, Expect, Result as BrokerResult};

use super::Client;
use crate::error::ClientError;
use crate::storage::pauses::{self, HEEDED_WITHIN, Pausable, Paused};
use crate::wire::summary::{StatusKind, Summary};
use crate::wire::{self, Command};

/// How many instances are asked to go on at a time.
const AT_ONCE: usize = 100;
/// Workers read once more after this time what is paused.
const SETTLED: Duration = HEEDED_WITHIN;

impl Client {
    /// Pauses all instances of a workflow, all tasks of a service, or those of one method, for a reason that people
    /// read: an outside system is down, say, or a fault was found. Messages that arrive are kept. Pausing what is
    /// paused changes the reason.
    ///
    /// * **Tasks** that run go on. No attempt begins: not of new calls, not of those that are tried again. They wait in
    ///   the broker, and a few in the workers. The workflows that call them wait.
    /// * **Instances** whose code would run are paused when something next arrives for them, with the reason in their
    ///   histories and descriptions: what arrives is recorded, and their code sees it when they go on. New ones are
    ///   recorded, and begin then. They can be terminated and deleted meanwhile; what needs code is refused: updates,
    ///   resets, their own resumption.
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
    /// client.pause(&charges, "the acquirer is down").await?;
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
    pub async fn pause(&self, what: &Pausable, reason: impl Into<String>) -> Result<(), ClientError> {
        self.check_name(what)?;
        let since = self.0.clock.now().as_millis();
        let paused = Paused { what: what.clone(), reason: reason.into(), since, is_ending: false };
        pauses::put(&self.0.stored, &paused, Expect::Any).await?;
        tokio::time::sleep(SETTLED).await;
        Ok(())
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

//! A check of a worker's code against the instances that are open.

use std::fmt;

use partitura_broker::Result;
use partitura_workflow::{Definition, Event, Execution, Stop, StopReason};
use serde::Serialize;

use super::Worker;
use crate::code;
use crate::core::ReplayValues;
use crate::storage::{finding, history};
use crate::wire::find::InstanceFilter;
use crate::wire::names::InstanceKey;
use crate::wire::summary::{StatusKind, Summary};

/// How many instances are read at a time.
const PAGE: usize = 200;
/// How many misfits are named.
const NAMED: usize = 1_000;

impl Worker {
    /// Replays all instances of its workflows that have not ended with the code of this worker, and says which ones it
    /// would stop. A deployment runs it before its workers start.
    ///
    /// It only reads the store: it joins no subscription, takes no instance over, writes nothing, and other workers may
    /// go on meanwhile. One history is in memory at a time. Instances that end meanwhile are passed over, and those
    /// that are started meanwhile are not seen.
    ///
    /// ```no_run
    /// # use partitura_engine::Partitura;
    /// # use partitura_workflow::Workflow;
    /// # async fn example<Checkout: Workflow>(partitura: Partitura) -> Result<(), Box<dyn std::error::Error>> {
    /// let worker = partitura.worker().workflow::<Checkout>();
    /// let report = worker.check().await?;
    /// if !report.is_fit() {
    ///     return Err(report.to_string().into()); // the old build goes on
    /// }
    /// worker.start().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Unsupported`](partitura_broker::ErrorKind::Unsupported) when this connection has no store; those of the store.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn check(&self) -> Result<CheckReport> {
        let mut report = CheckReport::default();
        for definition in &self.definitions {
            self.check_workflow(definition, &mut report).await?;
        }
        Ok(report)
    }

    async fn check_workflow(&self, definition: &Definition, report: &mut CheckReport) -> Result<()> {
        let stored = &self.core.client.connection().stored;
        let open = InstanceFilter {
            workflow: Some(definition.name().to_owned()),
            status: vec![StatusKind::Running, StatusKind::Stopped, StatusKind::Paused],
            ..InstanceFilter::default()
        };
        let mut cursor = None;
        loop {
            let page = finding::page(stored, &open, cursor.as_ref(), PAGE).await?;
            for summary in page.instances {
                self.check_instance(definition, summary, report).await?;
            }
            cursor = page.next;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    async fn check_instance(&self, definition: &Definition, summary: Summary, report: &mut CheckReport) -> Result<()> {
        let key = InstanceKey::new(&summary.workflow, &summary.id);
        let events = match history::load(&self.core.client.connection().stored, &key, &summary.run).await {
            Ok(history) => history.events,
            Err(error) if error.is_retryable() => return Err(error),
            Err(error) => {
                report.add(Misfit { event: None, ..Misfit::new(summary, error.to_string()) });
                return Ok(());
            }
        };
        // The run has ended, or was deleted, since the page was read.
        if events.last().is_none_or(|event| event.kind.is_end()) {
            return Ok(());
        }
        let values = self.core.settings.replay_values;
        let replayed = code::call(&key, "run, replayed", || replay(definition, events, values));
        report.replayed += 1;
        match replayed {
            Ok(differs) => report.differing += usize::from(differs),
            Err((event, reason)) => report.add(Misfit { event, ..Misfit::new(summary, reason) }),
        }
        // Others may run between two replays.
        tokio::task::yield_now().await;
        Ok(())
    }
}

/// Whether values differ; or else the event at which the code does not fit, and why.
fn replay(definition: &Definition, events: Vec<Event>, values: ReplayValues) -> Result<bool, (Option<usize>, String)> {
    let replayed = match values {
        ReplayValues::Stop => Execution::replay(definition, events).map(|(execution, _)| (execution, false)),
        ReplayValues::Warn => Execution::replay_and_compare(definition, events)
            .map(|(execution, _, differences)| (execution, !differences.is_empty())),
    };
    let (execution, differs) = replayed.map_err(|Stop { reason, .. }| {
        let event = match &reason {
            StopReason::NonDeterministic { event_index, .. } => Some(*event_index),
            _ => None,
        };
        (event, reason.to_string())
    })?;
    match execution.unread_input().or_else(|| execution.unread_result()) {
        Some(problem) => Err((None, problem)),
        None => Ok(differs),
    }
}

/// The findings of [`Worker::check`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
#[must_use = "it says which instances the code would stop"]
pub struct CheckReport {
    /// How many instances were replayed.
    pub replayed: usize,
    /// How many instances the code would stop, or would not bring to go on where they are stopped already.
    pub misfits: usize,
    /// The first 1,000 of these.
    pub named: Vec<Misfit>,
    /// How many others the code would let go on although it asks for other values than the history has: see
    /// [`ReplayValues`](crate::ReplayValues). A worker logs them.
    pub differing: usize,
}

/// An instance that the code does not fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Misfit {
    /// The workflow's name.
    pub workflow: String,
    /// The instance's id.
    pub id: String,
    /// Its run.
    pub run: String,
    /// Where it stands now.
    pub status: StatusKind,
    /// The event of its history at which the code does something else, where that is why; the first is 0.
    pub event: Option<usize>,
    /// The problem, and what to do about it.
    pub reason: String,
}

impl Misfit {
    fn new(summary: Summary, reason: String) -> Self {
        let Summary { workflow, id, run, status, .. } = summary;
        Self { workflow, id, run, status: status.kind(), event: None, reason }
    }
}

impl CheckReport {
    /// Whether the code fits all instances.
    pub fn is_fit(&self) -> bool {
        self.misfits == 0
    }

    fn add(&mut self, misfit: Misfit) {
        self.misfits += 1;
        if self.named.len() < NAMED {
            self.named.push(misfit);
        }
    }
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { replayed, misfits, named, differing } = self;
        write!(f, "{replayed} open instances were replayed; the code fits all but {misfits}")?;
        if *differing > 0 {
            write!(f, "; {differing} go on with other values")?;
        }
        named.iter().try_for_each(|misfit| write!(f, "\n{misfit}"))?;
        match misfits - named.len() {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { workflow, id, status, reason, .. } = self;
        write!(f, "{workflow}/{id} ({}): {reason}", status.name())
    }
}

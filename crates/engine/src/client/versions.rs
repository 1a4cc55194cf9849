//! With which builds and versions of changes instances live: when old code may go.

use std::collections::BTreeMap;

use partitura_workflow::Workflow;
use serde::{Deserialize, Serialize};

use super::Client;
use super::instances::Instances;
use crate::error::ClientError;
use crate::wire::summary::{StatusKind, Summary};

/// How many instances are read at a time.
const PAGE: usize = 1_000;

/// With what the instances of a filter live that have not ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Versions {
    /// By workflow, and then by the [build](crate::Worker::build_id) that took the latest turn; the empty name is that
    /// of instances whose builds are not recorded.
    pub builds: BTreeMap<String, BTreeMap<String, Living>>,
    /// By workflow, then by [change](partitura_workflow::Cx::version), and then by the version of it. Instances that
    /// passed a change before it was made have no mark of it, and are not counted: they live with its oldest version.
    pub changes: BTreeMap<String, BTreeMap<String, BTreeMap<u32, Living>>>,
    /// By workflow, and then by the [version](partitura_workflow::Workflow::VERSION) of it.
    pub workflows: BTreeMap<String, BTreeMap<u32, Living>>,
    /// How many instances were counted.
    pub counted: usize,
    /// Whether there are more of them.
    pub is_capped: bool,
}

/// Instances that live with something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Living {
    /// How many they are.
    pub instances: usize,
    /// When the oldest was started, in milliseconds since the Unix epoch.
    pub oldest: u64,
}

impl Living {
    fn add(&mut self, started_at: u64) {
        self.instances += 1;
        self.oldest = self.oldest.min(started_at);
    }
}

impl Default for Living {
    fn default() -> Self {
        Self { instances: 0, oldest: u64::MAX }
    }
}

impl Versions {
    fn count(&mut self, Summary { workflow, workflow_version, started_at, build, versions, .. }: Summary) {
        let of_workflow = self.workflows.entry(workflow.clone()).or_default();
        of_workflow.entry(workflow_version).or_default().add(started_at);
        let builds = self.builds.entry(workflow.clone()).or_default();
        builds.entry(build.unwrap_or_default()).or_default().add(started_at);
        for (change, version) in versions {
            let changes = self.changes.entry(workflow.clone()).or_default();
            changes.entry(change).or_default().entry(version).or_default().add(started_at);
        }
        self.counted += 1;
    }
}

impl Instances {
    /// With which builds, and which versions of changes, those live that have not ended: up to `most` of them are
    /// counted.
    ///
    /// # Errors
    /// As for [`page`](Self::page).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn versions(&self, most: usize) -> Result<Versions, ClientError> {
        let open = [StatusKind::Running, StatusKind::Stopped, StatusKind::Paused];
        let open = open.into_iter().fold(self.clone(), Self::status);
        let mut versions = Versions::default();
        let mut page = open.page(PAGE).await?;
        loop {
            let left = most - versions.counted;
            versions.is_capped = page.instances.len() > left || (page.instances.len() == left && page.next.is_some());
            let living = page.instances.into_iter().take(left).filter(|summary| !summary.status.is_closed());
            living.for_each(|summary| versions.count(summary));
            let Some(next) = page.next.filter(|_| !versions.is_capped) else { return Ok(versions) };
            page = open.page_after(&next, PAGE).await?;
        }
    }
}

impl Client {
    /// With which builds and which versions of its changes instances of the workflow `W` live that have not ended, of a
    /// million at most: code that none of them lives with may go. The store tells it, without a worker.
    ///
    /// ```
    /// # use partitura_engine::{Client, ClientError};
    /// # async fn example<Checkout: partitura_workflow::Workflow>(client: Client) -> Result<(), ClientError> {
    /// let versions = client.versions::<Checkout>().await?;
    /// for (change, living) in versions.changes.values().flatten() {
    ///     for (version, living) in living {
    ///         println!("{change}: {} live with version {version}", living.instances);
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Unsupported`](partitura_broker::ErrorKind::Unsupported) when this connection has no store; those of the store.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn versions<W: Workflow>(&self) -> Result<Versions, ClientError> {
        self.instances().workflow(W::NAME).versions(1_000_000).await
    }
}

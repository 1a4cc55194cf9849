//! A description of a deployment: its services and workflows, and their topics.

use std::collections::HashSet;
use std::time::Duration;

use partitura_engine::{Destination, InstanceFilter, Served, StatusKind, Summary, Waiting};
use partitura_workflow::Payload;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::admin::{Admin, within};
use crate::error::AdminError;
use crate::instance::Wanted;

/// How long a worker of a workflow may take to answer.
const ANSWER: Duration = Duration::from_secs(3);
/// How many running instances are asked what they wait for, to find services without workers.
const ASKED: usize = 20;
/// How many of them at once: each may have a long history.
const AT_ONCE: usize = 5;

/// After how long, in milliseconds, a worker that runs a task has been heard of.
const UNHEARD: u64 = 35_000;

/// The topics of a workflow or a service.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Topic {
    /// Of whom.
    pub destination: Destination,
    /// The topic to which its commands or tasks are sent.
    pub takes: String,
    /// The topic of its events.
    pub events: String,
    /// How many partitions the first of these has. Tasks have no order, and no partitions.
    pub partitions: Option<u32>,
}

/// Whether a workflow or a service has workers.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Working {
    /// The services and workflows that are served, and the builds that serve them.
    #[serde(flatten)]
    pub served: Served,
    /// A workflow: whether a worker has answered. A service: `false` if an instance waits for it of which no worker was
    /// heard; `None` if nothing tells.
    pub has_worker: Option<bool>,
}

impl Admin {
    /// The workflows and services that workers serve or have served.
    ///
    /// # Errors
    /// [`Timeout`](AdminError::Timeout); those of the store.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn served(&self) -> Result<Vec<Served>, AdminError> {
        within("read who is served", async { Ok(self.partitura().served().await?) }).await
    }

    /// Their topics, as this connection names them.
    ///
    /// # Errors
    /// As for [`served`](Self::served).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn topics(&self) -> Result<Vec<Topic>, AdminError> {
        let served = self.served().await?;
        let topics = served.into_iter().map(|Served { destination, .. }| {
            let names = self.partitura().topics(&destination)?;
            Ok(Topic { destination, takes: names.takes, events: names.events, partitions: names.partitions })
        });
        topics.collect()
    }

    /// Which of them have workers, as far as can be known: workflows are asked, and of services it is read off up to 20
    /// instances that wait.
    ///
    /// # Errors
    /// As for [`served`](Self::served).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn workers(&self) -> Result<Vec<Working>, AdminError> {
        // All are asked at once: each may take until the end of its patience.
        let (waited_for, served) = tokio::try_join!(self.unserved(), self.served())?;
        let mut asking = JoinSet::new();
        for Served { destination, .. } in &served {
            if let Destination::Workflow(name) = destination.clone() {
                let admin = self.clone();
                asking.spawn(async move { admin.answers(&name).await.then_some(name) });
            }
        }
        let answering: HashSet<String> = asking.join_all().await.into_iter().flatten().collect();
        let working = served.into_iter().map(|served| {
            let has_worker = match &served.destination {
                Destination::Workflow(name) => Some(answering.contains(name)),
                Destination::Service(name) if waited_for.contains(name) => Some(false),
                Destination::Service(_) => None,
            };
            Working { served, has_worker }
        });
        let mut all: Vec<Working> = working.collect();
        let known =
            |name: &String| all.iter().any(|w: &Working| w.served.destination == Destination::Service(name.clone()));
        let strangers: Vec<Working> =
            waited_for.iter().filter(|name| !known(name)).map(|name| never_served(name)).collect();
        all.extend(strangers);
        Ok(all)
    }

    /// Whether a worker of the workflow answers: to a question about an instance that does not exist.
    async fn answers(&self, workflow: &str) -> bool {
        let handle = self.partitura.client().instance(workflow, "partitura.is-anybody-there");
        let answer = tokio::time::timeout(ANSWER, handle.query("partitura", &Payload::null())).await;
        !matches!(
            answer,
            Err(_) | Ok(Err(partitura_engine::ClientError::NoAnswer { .. } | partitura_engine::ClientError::Broker(_)))
        )
    }

    /// Services for whose tasks instances wait though no worker was heard of these, as far as up to 20 instances tell
    /// that run for a while.
    ///
    /// # Errors
    /// As for [`served`](Self::served).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn unserved(&self) -> Result<Vec<String>, AdminError> {
        let mut filter = InstanceFilter::default();
        filter.status.push(StatusKind::Running);
        // Whatever was started just now has been heard of by nobody.
        filter.started_before = Some(self.now().saturating_sub(UNHEARD));
        let running = self.partitura.client().instances().matching(filter);
        let page = within("list instances", running.page(ASKED)).await?;
        let mut waiting = Vec::new();
        for some in page.instances.chunks(AT_ONCE) {
            let mut asking = JoinSet::new();
            for Summary { workflow, id, .. } in some {
                let (admin, workflow, id) = (self.clone(), workflow.clone(), id.clone());
                asking.spawn(async move { admin.instance(&workflow, &id, Wanted::default()).await });
            }
            let instances = asking.join_all().await.into_iter().flatten();
            waiting.extend(instances.flat_map(|instance| instance.summary.waiting));
        }
        let unclaimed = waiting.into_iter().filter_map(|waiting| match waiting {
            Waiting::Task { service, unclaimed: true, .. } => Some(service),
            _ => None,
        });
        let mut services: Vec<String> = unclaimed.collect();
        services.sort_unstable();
        services.dedup();
        Ok(services)
    }
}

fn never_served(name: &str) -> Working {
    Working { served: Served::never(Destination::Service(name.to_owned())), has_worker: Some(false) }
}

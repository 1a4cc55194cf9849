//! How many instances stand where, and what needs somebody.

use std::collections::BTreeMap;

use partitura_engine::{ClientError, InstanceCount, InstanceFilter, Instances, StatusKind, Summary};
use serde::Serialize;

use crate::admin::{Admin, within};
use crate::error::AdminError;
use crate::pace::Sample;
use crate::text;

/// Up to how many instances of a kind are counted.
const COUNTED: usize = 10_000;
/// Up to how many of a status are counted in all workflows together: a store counts some 1,000 in a millisecond.
const COUNTED_TOGETHER: usize = 50_000;
/// How many workflows are counted one by one.
const WORKFLOWS: usize = 100;
/// How many stopped instances are looked at.
const STOPPED: usize = 1_000;
/// A minute, in milliseconds.
const MINUTE: u64 = 60_000;
/// How many causes are told, and how many instances of each.
const CAUSES: usize = 50;
const EXAMPLES: usize = 3;
/// How much of a cause tells it from others: values come later in it.
const CAUSE: usize = 200;
/// How many of the instances that were started last are shown.
const LATEST: usize = 10;

/// A deployment at a glance.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Overview {
    /// The workflows, by name.
    pub workflows: Vec<Counts>,
    /// Why instances are stopped, the most frequent cause first.
    pub stopped: Vec<Cause>,
    /// How many instances were started in the last minute.
    pub started: InstanceCount,
    /// How many ended in the last minute.
    pub closed: InstanceCount,
    /// The instances that were started last.
    pub latest: Vec<Summary>,
    /// How long tasks take, and how late timers are.
    pub sample: Sample,
}

/// How many instances of a workflow stand where.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Counts {
    /// The workflow's name.
    pub workflow: String,
    /// The numbers, in the order of [`StatusKind::ALL`].
    pub counts: Vec<(StatusKind, InstanceCount)>,
}

/// Why instances of a workflow are stopped.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Cause {
    /// The workflow's name.
    pub workflow: String,
    /// The reason of one of them.
    pub reason: String,
    /// Which build tried them last, if it is known.
    pub build: Option<String>,
    /// How many they are.
    pub count: usize,
    /// When the oldest of them was started, in milliseconds since the Unix epoch.
    pub oldest: u64,
    /// Some of their ids.
    pub examples: Vec<String>,
}

impl Counts {
    /// How many stand there.
    pub fn count(&self, kind: StatusKind) -> (usize, bool) {
        let found = self.counts.iter().find(|(status, _)| *status == kind);
        found.map_or((0, false), |(_, count)| (count.counted, count.is_capped))
    }
}

impl Overview {
    /// How many instances of all workflows stand there, and whether there may be more.
    pub fn total(&self, kind: StatusKind) -> (usize, bool) {
        self.workflows
            .iter()
            .map(|counts| counts.count(kind))
            .fold((0, false), |(sum, is_capped), (number, capped)| (sum + number, is_capped || capped))
    }
}

impl Admin {
    /// A deployment at a glance.
    ///
    /// # Errors
    /// [`Timeout`](AdminError::Timeout); those of the store.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn overview(&self) -> Result<Overview, AdminError> {
        within("read the overview", async {
            let all = self.partitura.client().instances();
            let minute = self.now().saturating_sub(MINUTE);
            let (mut started, mut closed) = (InstanceFilter::default(), InstanceFilter::default());
            (started.started_from, closed.closed_from) = (Some(minute), Some(minute));
            let count = async |filter| all.clone().matching(filter).count(COUNTED).await;
            let stopped = all.clone().status(StatusKind::Stopped);
            let (workflows, started, closed, stopped, latest) = tokio::try_join!(
                counts(&all),
                count(started),
                count(closed),
                stopped.first(STOPPED),
                all.page(LATEST),
            )?;
            let (stopped, latest) = (causes(&stopped), latest.instances);
            let sample = self.sample(&latest).await;
            Ok(Overview { workflows, stopped, started, closed, latest, sample })
        })
        .await
    }

    /// Why instances are stopped, of the 1,000 that were started last among them.
    ///
    /// # Errors
    /// [`Timeout`](AdminError::Timeout); those of the store.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn stopped(&self) -> Result<Vec<Cause>, AdminError> {
        let stopped = self.partitura.client().instances().status(StatusKind::Stopped);
        Ok(causes(&within("read stopped instances", stopped.first(STOPPED)).await?))
    }
}

async fn counts(all: &Instances) -> Result<Vec<Counts>, ClientError> {
    let mut names = all.workflows().await?;
    names.truncate(WORKFLOWS);
    let tally = all.tally(&names, counted_each(names.len())).await?;
    let counts = |counts: Vec<InstanceCount>| StatusKind::ALL.into_iter().zip(counts).collect();
    Ok(names.into_iter().zip(tally).map(|(workflow, tally)| Counts { workflow, counts: counts(tally) }).collect())
}

/// The bound of each count for this many workflows: a power of ten, which is easy to read.
fn counted_each(workflows: usize) -> usize {
    let share = COUNTED_TOGETHER / workflows.max(1);
    10_usize.pow(share.max(1).ilog10()).min(COUNTED)
}

fn causes(stopped: &[Summary]) -> Vec<Cause> {
    let mut causes: BTreeMap<(&str, Option<&str>, String), Cause> = BTreeMap::new();
    for summary in stopped {
        let Some(reason) = summary.status.reason() else { continue };
        let (workflow, build) = (summary.workflow.as_str(), summary.build.as_deref());
        let cause = causes.entry((workflow, build, alike(reason))).or_insert_with(|| Cause {
            workflow: workflow.to_owned(),
            reason: reason.to_owned(),
            build: build.map(str::to_owned),
            count: 0,
            oldest: summary.started_at,
            examples: Vec::new(),
        });
        cause.count += 1;
        cause.oldest = cause.oldest.min(summary.started_at);
        if cause.examples.len() < EXAMPLES {
            cause.examples.push(summary.id.clone());
        }
    }
    let mut causes: Vec<Cause> = causes.into_values().collect();
    causes.sort_by_key(|cause| std::cmp::Reverse(cause.count));
    causes.truncate(CAUSES);
    causes
}

/// Gives the text that the reasons of one cause have in common: the beginning, with numbers left out.
fn alike(reason: &str) -> String {
    let cause = text::cause(reason, CAUSE);
    let parts: Vec<&str> = cause.split(|c: char| c.is_ascii_digit()).filter(|part| !part.is_empty()).collect();
    parts.join("0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_workflows_there_are_the_fewer_instances_of_each_are_counted() {
        assert_eq!([0, 1, 5, 6, 50, 51, 100].map(counted_each), [10_000, 10_000, 10_000, 1_000, 1_000, 100, 100]);
    }

    #[test]
    fn reasons_that_differ_in_numbers_are_one_cause() {
        assert_eq!(alike("event 17 is a task"), alike("event 4 is a task"));
        assert_ne!(alike("it panicked: a"), alike("it panicked: b"));
    }
}

//! How long tasks take and how late timers are, by a sample: the store keeps no figures.

use std::collections::BTreeMap;

use partitura_engine::{InstanceFilter, Summary};
use serde::Serialize;
use tokio::task::JoinSet;

use crate::admin::Admin;
use crate::rows::{RowKind, RowState, rows};

/// How many instances are looked at, of those that ended and of those that were started last.
const ENDED: usize = 10;
/// How many of the last events of each.
const EVENTS: usize = 100;
/// Which instances have ended lately: within an hour, in milliseconds.
const LATELY: u64 = 3_600_000;
/// How many kinds of tasks are told.
const TASKS: usize = 10;

/// How long some things took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Pace {
    /// Tasks: `Payments.charge`. Timers: `timer`.
    pub name: String,
    /// How many there are in the sample.
    pub count: usize,
    /// Half of them took this many milliseconds at most.
    pub p50_ms: u64,
    /// 95 of 100 took this many milliseconds at most.
    pub p95_ms: u64,
}

/// The pace of a sample of instances: those that ended last within the hour, and those that were started last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Sample {
    /// How many instances are in it.
    pub instances: usize,
    /// From the call of a task to its result, waits and further attempts included. The slowest kind comes first.
    pub tasks: Vec<Pace>,
    /// From the moment of a timer to its turn.
    pub timers: Option<Pace>,
}

impl Admin {
    /// The pace of a sample. An instance that cannot be read is left out.
    pub(crate) async fn sample(&self, latest: &[Summary]) -> Sample {
        let client = self.partitura.client();
        let mut ended = InstanceFilter::default();
        ended.closed_from = Some(self.now().saturating_sub(LATELY));
        let ended = client.instances().matching(ended).page(ENDED).await;
        let mut looked_at: Vec<Summary> = ended.map(|page| page.instances).unwrap_or_default();
        looked_at.extend(latest.iter().cloned());
        looked_at.sort_by(|one, other| one.run.cmp(&other.run));
        looked_at.dedup_by(|one, other| one.run == other.run);
        let mut reading = JoinSet::new();
        for Summary { workflow, id, run, .. } in looked_at {
            let handle = client.instance(workflow, id);
            reading.spawn(async move { handle.last_events_of_run(&run, EVENTS).await });
        }
        let (mut instances, mut tasks, mut timers) = (0, BTreeMap::<String, Vec<u64>>::new(), Vec::new());
        for page in reading.join_all().await.into_iter().flatten() {
            instances += 1;
            for row in rows(page.first, &page.events) {
                match (row.kind, row.state, row.to) {
                    // A row whose call is not on the page has no name of its own.
                    (RowKind::Task, RowState::Done | RowState::Failed, Some(to)) if row.name.contains('.') => {
                        tasks.entry(row.name).or_default().push(to.saturating_sub(row.from));
                    }
                    (RowKind::Timer, RowState::Done, Some(to)) => {
                        timers.extend(row.due.map(|due| to.saturating_sub(due)));
                    }
                    _ => {}
                }
            }
        }
        let mut tasks: Vec<Pace> = tasks.into_iter().filter_map(|(name, took)| pace(name, took)).collect();
        tasks.sort_by_key(|pace| std::cmp::Reverse(pace.p95_ms));
        tasks.truncate(TASKS);
        Sample { instances, tasks, timers: pace("timer".to_owned(), timers) }
    }
}

fn pace(name: String, mut took: Vec<u64>) -> Option<Pace> {
    took.sort_unstable();
    // The smallest value that this share of all does not exceed (nearest rank).
    let at = |percent: usize| took.get((took.len() * percent).div_ceil(100).saturating_sub(1)).copied();
    Some(Pace { name, count: took.len(), p50_ms: at(50)?, p95_ms: at(95)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_value_that_was_seen() {
        let of = |took: Vec<u64>| pace("a".to_owned(), took).map(|pace| (pace.p50_ms, pace.p95_ms));
        assert_eq!(of((1..=100).rev().collect()), Some((50, 95)));
        assert_eq!(of(vec![7]), Some((7, 7)));
        assert_eq!(of(vec![9, 1]), Some((1, 9)));
        assert_eq!(of(Vec::new()), None);
    }
}

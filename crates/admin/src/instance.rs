//! One instance.

use std::time::Duration;

use partitura_engine::{ClientError, HistoryPage, InstanceHandle, Summary};
use partitura_workflow::{Event, EventKind, Started};

use crate::admin::{Admin, within};
use crate::error::AdminError;

/// How long a worker may take to say what an instance waits for, unless less is wanted; then its history has to do.
const ANSWER: Duration = Duration::from_millis(1_500);
/// By how many of its last events that is told then.
const LAST: usize = 10_000;

/// A description of an instance.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Instance {
    /// Where it stands, and what it waits for.
    pub summary: Summary,
    /// How it began.
    pub started: Option<Box<Started>>,
    /// How many events its run has.
    pub events: usize,
    /// The events that were asked for.
    pub page: Events,
    /// The last events, as many as were asked for.
    pub recent: Events,
    /// Whether a worker has said what it waits for. Otherwise that is read off its last 10,000 events, which do not
    /// know of channels and conditions, nor of what came before them.
    pub is_answered: bool,
}

/// Events that follow one another.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Events {
    /// The number of the first, counted from 0.
    pub first: usize,
    /// The events.
    pub events: Vec<Event>,
}

/// Which events of an instance are wanted beside what is known of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted {
    /// How many of the last ones.
    pub recent: usize,
    /// How many on a page.
    pub page: usize,
    /// The number of the page's first event, counted from 0; without, it is the last page.
    pub from: Option<usize>,
    /// How long a worker may take to say what the instance waits for, 1.5 s unless set. A page that must not wait says
    /// less.
    pub answer_within: Option<Duration>,
}

impl Admin {
    fn handle(&self, workflow: &str, id: &str) -> InstanceHandle {
        self.partitura.client().instance(workflow, id)
    }

    /// Describes an instance, and gives some of its events. Of a long history only these are read.
    ///
    /// # Errors
    /// [`NotFound`](AdminError::NotFound); [`Timeout`](AdminError::Timeout); those of the store.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn instance(&self, workflow: &str, id: &str, wanted: Wanted) -> Result<Instance, AdminError> {
        let handle = self.handle(workflow, id);
        within("read an instance", async {
            let stored = handle.summary().await?;
            let is_closed = stored.status.is_closed();
            let patience = wanted.answer_within.unwrap_or(ANSWER);
            let answer = async {
                match is_closed {
                    true => None,
                    false => {
                        tokio::time::timeout(patience, handle.describe_by_worker()).await.ok().and_then(Result::ok)
                    }
                }
            };
            let run = &stored.run;
            let most = wanted.recent.max(wanted.page);
            let page = async {
                match wanted.from {
                    Some(from) => handle.history_of_run(run, from, wanted.page).await.map(Some),
                    None => Ok(None),
                }
            };
            let (answer, first, last, page) =
                tokio::join!(answer, handle.history_of_run(run, 0, 1), handle.last_events_of_run(run, most), page);
            let (mut first, last) = (first?, last?);
            let page = page?.map_or_else(|| end_of(&last, wanted.page), events);
            let recent = end_of(&last, wanted.recent);
            let is_answered = answer.is_some();
            let summary = match answer {
                Some(answer) if answer.run == stored.run => answer,
                _ if is_closed => stored,
                _ => handle.describe_by_last_events(LAST).await?,
            };
            let started = match first.events.pop().map(|event| event.kind) {
                Some(EventKind::WorkflowStarted(started)) => Some(started),
                _ => None,
            };
            Ok(Instance { summary, started, events: last.total, page, recent, is_answered })
        })
        .await
    }

    /// Gives the stored state of an instance, and the number of its turns, without its history.
    ///
    /// # Errors
    /// As for [`instance`](Self::instance).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn glance(&self, workflow: &str, id: &str) -> Result<(Summary, usize), AdminError> {
        let handle = self.handle(workflow, id);
        within("read an instance", async {
            let summary = handle.summary().await?;
            let turns = handle.turns(&summary.run).await?;
            Ok::<_, ClientError>((summary, turns))
        })
        .await
    }

    /// Up to `limit` events of the run of this summary, from number `first` on, counted from 0.
    ///
    /// # Errors
    /// As for [`instance`](Self::instance).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn history(&self, of: &Summary, first: usize, limit: usize) -> Result<HistoryPage, AdminError> {
        within("read a history", self.handle(&of.workflow, &of.id).history_of_run(&of.run, first, limit)).await
    }
}

fn events(HistoryPage { first, events, .. }: HistoryPage) -> Events {
    Events { first, events }
}

/// The last `most` events of a page.
fn end_of(page: &HistoryPage, most: usize) -> Events {
    let skipped = page.events.len().saturating_sub(most);
    Events { first: page.first + skipped, events: page.events[skipped..].to_vec() }
}

//! The first page: how many instances stand where, and what needs somebody.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Html;
use maud::{Markup, html};
use partitura_admin::{Cause, Counts, Letterbox, Overview, Sample, text};
use partitura_engine::StatusKind;
use serde::Deserialize;

use crate::context::{Shared, Visit, query};
use crate::error::Problem;
use crate::pauses;
use crate::shell::{Place, shell};
use crate::view::{id_link, moment, number, status, table};

/// As many letters of one destination are read; there may be more.
const READ: usize = 500;

/// The statuses in the order of what needs somebody.
const ORDER: [StatusKind; 6] = [
    StatusKind::Running,
    StatusKind::Stopped,
    StatusKind::Paused,
    StatusKind::Failed,
    StatusKind::Cancelled,
    StatusKind::Completed,
];

/// The query of the address.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Asked {
    /// Was just paused, and is not known.
    unknown: String,
}

pub(crate) async fn show(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Html<String>, Problem> {
    let Query(asked) = asked.unwrap_or_default();
    let overview = shared.overview().await.map_err(|error| Problem::from(error).at(&visit))?;
    let (one, other) = (shared.admin.clone(), shared.admin.clone());
    let (letters, unserved) = tokio::join!(
        shared.letters.read(async move { one.all_letters().await.ok().map(|boxes| sum(&boxes)) }),
        shared.unserved.read(async move { other.unserved().await.ok() })
    );
    let pauses = shared.admin.pauses().await.map_err(|error| Problem::from(error).at(&visit))?;
    let paused = html! {
        (pauses::unknown(&pauses, &asked.unknown))
        (pauses::list(&shared, &visit, &pauses, shared.admin.now()))
    };
    let body = body(&visit, (&overview, letters, &paused), &unserved.unwrap_or_default(), shared.admin.now());
    Ok(shell(&shared, &visit, Place::Overview, "Overview", &body))
}

/// How many letters there are, and whether there may be more.
fn sum(boxes: &[Letterbox]) -> (usize, bool) {
    let number = boxes.iter().map(|of| of.letters.len()).sum();
    (number, boxes.iter().any(|of| of.letters.len() >= READ || of.error.is_some()))
}

fn body(
    visit: &Visit,
    (overview, letters, paused): (&Overview, Option<(usize, bool)>, &Markup),
    unserved: &[String],
    now: u64,
) -> Markup {
    html! {
        h1 { "Overview" }
        (figures(visit, overview, letters))
        (paused)
        @if !unserved.is_empty() {
            section.panel.alarm {
                h2 { "Waited for, without a worker" }
                p { @for service in unserved { span.mono { (service) } " " } }
                p.note {
                    "Instances wait for tasks of these services, and no worker has been heard of them. Start one, or look at "
                    a href=(visit.link("/topics")) { "who serves what" } "."
                }
            }
        }
        @if !overview.stopped.is_empty() { (causes(visit, &overview.stopped, now)) }
        h2 { "Workflows" }
        @if overview.workflows.is_empty() {
            p.empty { "No workflow has been started yet. Instances appear here as soon as one is." }
        } @else {
            (workflows(visit, &overview.workflows))
        }
        (pace(&overview.sample))
        @if !overview.latest.is_empty() {
            h2 { "Started last" }
            (table(visit, &overview.latest, now))
        }
    }
}

fn figures(visit: &Visit, overview: &Overview, letters: Option<(usize, bool)>) -> Markup {
    html! {
        div.figures {
            @for kind in ORDER {
                a href=(visit.link(&format!("/instances{}", query(&[("status", kind.name())])))) {
                    b { (number(overview.total(kind))) }
                    (status(kind))
                }
            }
            a href=(visit.link("/dead-letters")) {
                b { (letters.map_or_else(|| "…".to_owned(), number)) }
                span.status { "dead letters" }
            }
        }
        p.note {
            "In the last minute " (number((overview.started.counted, overview.started.is_capped))) " started and "
            (number((overview.closed.counted, overview.closed.is_capped))) " ended."
        }
    }
}

/// How long tasks take, and how late timers are.
fn pace(sample: &Sample) -> Markup {
    let rows =
        sample.tasks.iter().map(|pace| ("task", pace)).chain(sample.timers.iter().map(|pace| ("lateness", pace)));
    html! {
        @if !sample.tasks.is_empty() || sample.timers.is_some() {
            h2 { "Pace" span.note { "Of " (sample.instances) " instances that ended or were started last." } }
            div.scroll { table {
                thead { tr {
                    th scope="col" { "Of" } th.num scope="col" { "Count" } th.num scope="col" { "p50" } th.num scope="col" { "p95" }
                } }
                tbody { @for (what, pace) in rows { tr {
                    td { (pace.name) span.note { " " (what) } }
                    td.num { (pace.count) }
                    td.num { (text::span(pace.p50_ms)) }
                    td.num { (text::span(pace.p95_ms)) }
                } } }
            } }
        }
    }
}

fn causes(visit: &Visit, causes: &[Cause], now: u64) -> Markup {
    html! {
        h2 { "Stopped, by cause" span.note { "Their code cannot go on. What arrives for them is kept." } }
        div.scroll {
            table.fold {
                thead { tr {
                    th.num scope="col" { "Instances" } th scope="col" { "Cause" } th scope="col" { "Workflow" }
                    th scope="col" { "Build" } th scope="col" { "Oldest start" } th scope="col" { "For example" }
                } }
                tbody { @for cause in causes { tr {
                    td.num data-label="Instances" { (number((cause.count, false))) }
                    td.wide { (text::cause(&cause.reason, 240)) }
                    td data-label="Workflow" {
                        @let link = query(&[("workflow", &cause.workflow), ("status", "stopped")]);
                        a href=(visit.link(&format!("/instances{link}"))) { (cause.workflow) }
                    }
                    td.mono data-label="Build" { (cause.build.as_deref().unwrap_or("unknown")) }
                    td data-label="Oldest start" { (moment(cause.oldest, now)) }
                    td.id data-label="For example" { @for id in &cause.examples { (id_link(visit, &cause.workflow, id)) " " } }
                } } }
            }
        }
    }
}

fn workflows(visit: &Visit, workflows: &[Counts]) -> Markup {
    html! {
        div.scroll {
            table {
                thead { tr {
                    th scope="col" { "Workflow" }
                    @for kind in ORDER { th.num scope="col" { (kind.name()) } }
                } }
                tbody { @for counts in workflows { tr {
                    td {
                        a href=(visit.link(&format!("/instances{}", query(&[("workflow", &counts.workflow)])))) {
                            (counts.workflow)
                        }
                    }
                    @for kind in ORDER {
                        @let count = counts.count(kind);
                        td.num.zero[count.0 == 0] {
                            @let link = query(&[("workflow", &counts.workflow), ("status", kind.name())]);
                            a href=(visit.link(&format!("/instances{link}"))) { (number(count)) }
                        }
                    }
                } } }
            }
        }
    }
}

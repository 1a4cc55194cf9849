//! One instance: where it stands, what it waits for, what it did.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{Html, IntoResponse, Response};
use maud::{Markup, html};
use partitura_admin::{Instance, Wanted, text};
use partitura_engine::{Status, Summary, Waiting};
use serde::Deserialize;

use crate::context::{Shared, Visit, query};
use crate::error::Problem;
use crate::history;
use crate::shell::{Place, shell};
use crate::timeline::{self, Look};
use crate::view::{full, lasted, moment, payload, status};
use crate::{actions, download};

/// From how many events the timeline is drawn: the last ones.
const TIMELINE: usize = 600;
/// How long the page waits for a worker; it is shown within 200 ms.
const ANSWER: Duration = Duration::from_millis(100);

/// The part of the instance that is shown, as the address has it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Asked {
    rows: String,
    scale: String,
    from: Option<usize>,
    events: String,
    done: String,
}

type Named = Result<Path<(String, String)>, PathRejection>;

fn named(path: Named) -> Result<(String, String), Problem> {
    path.map(|Path(named)| named).map_err(|error| Problem::not_found(error.body_text()))
}

pub(crate) async fn show(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    path: Named,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Html<String>, Problem> {
    let read = async {
        let (workflow, id) = named(path)?;
        let Query(asked) = asked.map_err(|error| Problem::not_found(error.body_text()))?;
        let admin = &shared.admin;
        let answer_within = Some(ANSWER);
        let wanted = Wanted { recent: TIMELINE, page: history::PAGE, from: asked.from, answer_within };
        let instance = admin.instance(&workflow, &id, wanted).await?;
        let path = visit.instance(&workflow, &id);
        let now = admin.now();
        let look = Look { only_failed: asked.rows == "failed", to_scale: asked.scale == "true" };
        let rows = partitura_admin::rows(instance.recent.first, &instance.recent.events);
        let body = html! {
            (actions::outcome(&asked.done))
            (head(&visit, &instance, now))
            @if visit.actor().is_some() { (actions::forms(&shared, &visit, &instance.summary)) }
            (trouble(&instance.summary))
            (waits(&visit, &instance, now))
            (timeline::table(&visit, &path, &rows, now, look, instance.recent.first == 0))
            (values(&instance))
            (facts(&visit, &instance.summary))
            (history::section(&path, &instance.page, asked.events == "failed", instance.events))
        };
        Ok::<_, Problem>((id, body))
    };
    let (id, body) = read.await.map_err(|problem| problem.at(&visit))?;
    Ok(shell(&shared, &visit, Place::Instances, &id, &body))
}

/// All of the history, as JSON lines.
pub(crate) async fn download(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    path: Named,
) -> Result<Response, Problem> {
    let read = async {
        let (workflow, id) = named(path)?;
        let (summary, _) = shared.admin.glance(&workflow, &id).await?;
        let history = shared.admin.history(&summary, 0, usize::MAX).await?;
        Ok::<_, Problem>((id, history))
    };
    let (id, history) = read.await.map_err(|problem| problem.at(&visit))?;
    let safe: String =
        id.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect();
    let name = format!("attachment; filename=\"{safe}.jsonl\"");
    let headers = [(CONTENT_TYPE, "application/x-ndjson".to_owned()), (CONTENT_DISPOSITION, name)];
    Ok((headers, download::body(history.events)).into_response())
}

fn head(visit: &Visit, instance: &Instance, now: u64) -> Markup {
    let summary = &instance.summary;
    html! {
        div.head {
            p.path {
                a href=(visit.link(&format!("/instances{}", query(&[("workflow", &summary.workflow)])))) { (summary.workflow) }
                @if let Some(parent) = &summary.parent {
                    " · child of " a href=(visit.instance(&parent.workflow, &parent.id)) { (parent.workflow) "/" (parent.id) }
                }
            }
            h1.mono { (summary.id) }
            p.note {
                (status(summary.status.kind())) " · started " (moment(summary.started_at, now))
                @if summary.closed_at.is_some() { " · took " } @else { " · for " }
                (lasted(summary, now)) " · " (instance.events) " events · "
                a href=(visit.link(&format!("/instances{}", query(&[("parent", &format!("{}/{}", summary.workflow, summary.id))])))) {
                    "children"
                }
            }
        }
    }
}

/// Why it does not go on, or how it failed.
fn trouble(summary: &Summary) -> Markup {
    let failure =
        summary.end.as_ref().and_then(|end| match end {
            partitura_workflow::EventKind::WorkflowFailed { failure } => Some(failure.to_string()),
            partitura_workflow::EventKind::WorkflowCancelled { reason, failure } => {
                let reason = reason.clone().unwrap_or_else(|| "without a reason".to_owned());
                Some(failure.as_ref().map_or_else(
                    || format!("cancelled: {reason}"),
                    |failure| format!("cancelled: {reason}; {failure}"),
                ))
            }
            _ => None,
        });
    html! {
        @if let Some(reason) = summary.status.reason() {
            section.panel.alarm {
                h2 { "Its code cannot go on" }
                pre tabindex="0" { (reason) }
                p.note { "What arrives is kept. It is tried again from time to time, when a worker with another build takes it over, and by resuming it." }
            }
        }
        @if let Status::Paused { reason } = &summary.status {
            section.panel.alarm {
                h2 { "Paused" }
                p { (reason) }
                p.note { "Its code does not run. What arrives is kept until it is resumed." }
            }
        }
        @if let Some(held) = &summary.held_up {
            section.panel.alarm { h2 { "Code of it does not come back" } p { (held.code) ", since " (full(held.since)) } }
        }
        @if let Some(failure) = failure {
            section.panel.failed { h2 { "How it ended" } pre tabindex="0" { (failure) } }
        }
    }
}

fn waits(visit: &Visit, instance: &Instance, now: u64) -> Markup {
    let summary = &instance.summary;
    // Why a stopped instance does not go on stands above.
    let is_told = summary.status.reason().is_some() && summary.waiting.is_empty();
    if summary.status.is_closed() || is_told {
        return html! {};
    }
    let more = summary.waits_for.saturating_sub(summary.waiting.len());
    html! {
        section.panel {
            h2 { "Waits for, now" }
            @if summary.waiting.is_empty() {
                p.note { "Nothing that its history shows." }
            }
            ul { @for waiting in &summary.waiting {
                li {
                    @match waiting {
                        Waiting::Child { workflow, id, .. } => {
                            a href=(visit.instance(workflow, id)) { (text::waiting(waiting, now)) }
                        }
                        Waiting::Timer { due_at, .. } => { (text::waiting(waiting, now)) span.note { " · " (full(*due_at)) } }
                        _ => (text::waiting(waiting, now)),
                    }
                }
            } }
            @if more > 0 { p.note { "and " (more) " more" } }
            @if !instance.is_answered {
                p.note { "As its last events have it: no worker of " (summary.workflow) " answered at once. Is one running?" }
            }
        }
    }
}

fn values(instance: &Instance) -> Markup {
    let output = instance.summary.end.as_ref().and_then(|end| match end {
        partitura_workflow::EventKind::WorkflowCompleted { result } => Some(result),
        _ => None,
    });
    html! {
        div.two {
            section {
                h2 { "Input" }
                @match &instance.started { Some(started) => (payload(&started.input)), None => p.note { "Not known." } }
            }
            section {
                h2 { "Output" }
                @match output { Some(output) => (payload(output)), None => p.note { "None." } }
            }
        }
    }
}

fn facts(visit: &Visit, summary: &Summary) -> Markup {
    html! {
        h2 { "Facts" }
        dl.facts {
            dt { "Run" } dd.mono { (summary.run) }
            @if let Some(first) = &summary.first_run { dt { "Continues" } dd.mono { (first) } }
            @if summary.workflow_version > 1 { dt { "Version" } dd { (summary.workflow_version) } }
            @if summary.attempt > 1 { dt { "Attempt" } dd { (summary.attempt) } }
            dt { "Started" } dd { (full(summary.started_at)) }
            @if let Some(closed) = summary.closed_at { dt { "Ended" } dd { (full(closed)) } }
            @if let Some(expires) = summary.expires_at { dt { "Is deleted" } dd { (full(expires)) } }
            @if let Some(build) = &summary.build { dt { "Build" } dd.mono { (build) } }
            @for (change, version) in &summary.versions { dt { "Version of " (change) } dd { (version) } }
            @for (name, value) in &summary.attributes { dt { (name) } dd { (value.to_string()) } }
            @if !summary.tags.is_empty() {
                dt { "Tags" }
                dd { @for tag in &summary.tags {
                    a.tag href=(visit.link(&format!("/instances{}", query(&[("tag", tag)])))) { (tag) }
                } }
            }
            @for waiter in &summary.awaited_by {
                dt { "Awaited by" } dd { a href=(visit.instance(&waiter.workflow, &waiter.id)) { (waiter.workflow) "/" (waiter.id) } }
            }
        }
    }
}

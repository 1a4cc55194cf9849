//! The raw history, page by page.

use maud::{Markup, html};
use partitura_admin::{Events, is_failure};
use partitura_workflow::{Event, EventKind, Payload};

use crate::view::{full, payload};

/// How many events a page shows.
pub(crate) const PAGE: usize = 100;

/// The history's part of the page of an instance.
pub(crate) fn section(path: &str, page: &Events, only_failed: bool, total: usize) -> Markup {
    let end = page.first + page.events.len();
    let numbered = (page.first..).zip(&page.events).filter(|(_, event)| !only_failed || is_failure(&event.kind));
    let events: Vec<(usize, &Event)> = numbered.collect();
    html! {
        h2 #history {
            "History"
            span.note {
                @if total == 0 { "nothing" } @else { (page.first) " to " (end.saturating_sub(1)) " of " (total) }
                " · "
                @if only_failed { a href={ (path) "?from=" (page.first) "#history" } { "all" } " · " b { "failures" } }
                @else { b { "all" } " · " a href={ (path) "?from=" (page.first) "&events=failed#history" } { "failures" } }
                " · " a href={ (path) "/history.json" } { "download" }
            }
        }
        @if events.is_empty() { p.empty { "No failure among these." } }
        div.scroll { table.history {
            tbody { @for (number, event) in events { tr {
                td.num.no { (number) }
                td.at { (full(event.at)) }
                td.wide { (one(event)) }
            } } }
        } }
        nav.pages aria-label="Pages of the history" {
            @if page.first > 0 {
                a.button href={ (path) "?from=0#history" } { "First" }
                a.button href={ (path) "?from=" (page.first.saturating_sub(PAGE)) "#history" } { "Earlier" }
            }
            @if end < total {
                a.button href={ (path) "?from=" (end) "#history" } { "Later" }
                a.button href={ (path) "#history" } { "Last" }
            }
        }
    }
}

fn one(event: &Event) -> Markup {
    let value = value(&event.kind);
    html! {
        @match value {
            Some(value) => details { summary { (event.to_string()) } (payload(value)) },
            None => (event.to_string()),
        }
    }
}

/// The payload of an event.
fn value(kind: &EventKind) -> Option<&Payload> {
    match kind {
        EventKind::WorkflowStarted(started) => Some(&started.input),
        EventKind::SignalReceived { payload, .. } | EventKind::SignalSent { payload, .. } => Some(payload),
        EventKind::TaskCompleted { result, .. }
        | EventKind::ChildCompleted { result, .. }
        | EventKind::StepCompleted { result, .. }
        | EventKind::UpdateCompleted { result, .. }
        | EventKind::WorkflowCompleted { result } => Some(result),
        EventKind::TaskScheduled { args, .. } | EventKind::UpdateReceived { args, .. } => Some(args),
        EventKind::ChildStarted { input, .. } | EventKind::WorkflowContinued { input, .. } => Some(input),
        EventKind::TaskFailed { failure, .. }
        | EventKind::ChildFailed { failure, .. }
        | EventKind::StepFailed { failure, .. }
        | EventKind::WorkflowFailed { failure }
        | EventKind::WorkflowRetried { failure, .. } => failure.details.as_ref(),
        EventKind::TaskHeartbeat { details, .. } => details.as_ref(),
        _ => None,
    }
}

//! Workflows, services and methods that are paused: shown where they matter, paused and resumed by those who may act.

use std::sync::Arc;

use axum::Form;
use axum::extract::State;
use axum::extract::rejection::FormRejection;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use partitura_admin::text;
use partitura_engine::{InvalidPausable, Pausable, Paused};
use serde::Deserialize;

use crate::context::{Shared, Visit, query};
use crate::error::Problem;
use crate::security::admitted;
use crate::view::moment;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Sent {
    csrf: String,
    what: String,
    reason: String,
}

/// Says that nothing is known of what was just paused. The address names it, and only a pause counts.
pub(crate) fn unknown(pauses: &[Paused], named: &str) -> Markup {
    let paused = pauses.iter().find(|paused| paused.what.to_string() == named);
    html! { @if let Some(Paused { what, .. }) = paused { p.flash role="status" { (what) ": " (text::paused(what, false)) } } }
}

/// Lists the pauses, each with a button to resume.
pub(crate) fn list(shared: &Shared, visit: &Visit, pauses: &[Paused], now: u64) -> Markup {
    html! {
        @if !pauses.is_empty() {
            h2 { "Paused" span.note { "Nothing of them begins. What arrives is kept." } }
            div.scroll { table.fold {
                thead { tr { th scope="col" { "What" } th scope="col" { "Why" } th scope="col" { "Since" } th {} } }
                tbody { @for paused in pauses { tr {
                    td { (paused.what) }
                    td.wide data-label="Why" {
                        (text::line(&paused.reason, 240))
                        @if paused.is_ending { span.note { " Its end was interrupted: resume it again." } }
                    }
                    td data-label="Since" { (moment(paused.since, now)) }
                    td { @if visit.actor().is_some() { div.actions { (resume(shared, visit, &paused.what)) } } }
                } } }
            } }
        }
    }
}

fn resume(shared: &Shared, visit: &Visit, what: &Pausable) -> Markup {
    form(shared, visit, ("resume", "Resume"), what, &html! { p.note { "What was kept goes on." } })
}

/// A button that pauses something.
pub(crate) fn pause(shared: &Shared, visit: &Visit, what: &Pausable) -> Markup {
    let reason = html! {
        label { "Why" input name="reason" required maxlength="500" autocomplete="off"; }
        p.note { "Nothing of it begins until it is resumed. What runs goes on, and what arrives is kept." }
    };
    form(shared, visit, ("pause", "Pause"), what, &reason)
}

fn form(shared: &Shared, visit: &Visit, (action, label): (&str, &str), what: &Pausable, fields: &Markup) -> Markup {
    html! {
        details {
            summary.button { (label) }
            form method="post" action=(visit.link(&format!("/pauses/{action}"))) {
                input type="hidden" name="csrf" value=(shared.csrf);
                input type="hidden" name="what" value=(what);
                (fields)
                button { (label) }
            }
        }
    }
}

/// Pauses something, and shows the overview.
pub(crate) async fn begin(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    headers: HeaderMap,
    form: Result<Form<Sent>, FormRejection>,
) -> Result<Response, Problem> {
    let done = async {
        let (who, what, reason) = asked(&shared, &visit, &headers, form)?;
        let receipt = shared.admin.pause(who, &what, &reason).await?;
        Ok((what, receipt.is_known))
    };
    let (what, is_known) = done.await.map_err(|problem: Problem| problem.at(&visit))?;
    let unknown = if is_known { String::new() } else { what.to_string() };
    Ok(Redirect::to(&format!("{}{}", visit.link("/"), query(&[("unknown", &unknown)]))).into_response())
}

/// Resumes something, and shows the overview.
pub(crate) async fn end(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    headers: HeaderMap,
    form: Result<Form<Sent>, FormRejection>,
) -> Result<Response, Problem> {
    let done = async {
        let (who, what, reason) = asked(&shared, &visit, &headers, form)?;
        Ok(shared.admin.resume(who, &what, &reason).await?)
    };
    done.await.map_err(|problem: Problem| problem.at(&visit))?;
    Ok(Redirect::to(&visit.link("/")).into_response())
}

/// Gives the visitor who acts, the thing, and the reason.
fn asked<'a>(
    shared: &Shared,
    visit: &'a Visit,
    headers: &HeaderMap,
    form: Result<Form<Sent>, FormRejection>,
) -> Result<(&'a str, Pausable, String), Problem> {
    let (who, sent) = admitted(shared, visit, headers, form, |sent: &Sent| &sent.csrf)?;
    let wrong = |error: InvalidPausable| Problem::new(StatusCode::BAD_REQUEST, "Not carried out", error.to_string());
    Ok((who, sent.what.parse().map_err(wrong)?, sent.reason.trim().to_owned()))
}

//! The actions of a visitor on an instance.

use std::sync::Arc;

use axum::Form;
use axum::extract::rejection::FormRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use partitura_admin::Action;
use partitura_engine::{StatusKind, Summary};
use serde::Deserialize;

use crate::context::{Shared, Visit};
use crate::error::Problem;
use crate::security::admitted;

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
pub(crate) struct Sent {
    csrf: String,
    run: String,
    reason: String,
    name: String,
    payload: String,
}

/// The actions, as the address names them, with what is said when they are done.
const DONE: [(&str, &str); 7] = [
    ("signal", "The signal was taken."),
    ("cancel", "Its cancellation was requested."),
    ("terminate", "It was terminated."),
    ("pause", "It is paused."),
    ("resume", "It goes on, as far as its code can."),
    ("retry", "What had failed runs again."),
    ("delete", "It was deleted."),
];

/// Carries out an action, and shows the instance again.
pub(crate) async fn act(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    headers: HeaderMap,
    Path((workflow, id, action)): Path<(String, String, String)>,
    form: Result<Form<Sent>, FormRejection>,
) -> Result<Response, Problem> {
    let done = async {
        let (who, sent) = admitted(&shared, &visit, &headers, form, |sent: &Sent| &sent.csrf)?;
        let run = Some(sent.run.clone()).filter(|run| !run.is_empty());
        let named = meant(&action, sent)?;
        shared.admin.act(who, (&workflow, &id, run.as_deref()), named).await?;
        Ok(())
    };
    done.await.map_err(|problem: Problem| problem.at(&visit))?;
    let back = match action.as_str() {
        "delete" => visit.link("/instances"),
        _ => format!("{}?done={action}", visit.instance(&workflow, &id)),
    };
    Ok(Redirect::to(&back).into_response())
}

fn meant(action: &str, sent: Sent) -> Result<Action, Problem> {
    let incomplete = |text: &str| Problem::new(StatusCode::BAD_REQUEST, "Not carried out", text);
    let reason = sent.reason.trim().to_owned();
    let reasoned = |action: fn(String) -> Action| match &*reason {
        "" => Err(incomplete("Say why: the reason is recorded.")),
        reason => Ok(action(reason.to_owned())),
    };
    match action {
        "signal" => Action::signal(sent.name.trim(), &sent.payload).map_err(Problem::from),
        "cancel" => reasoned(Action::Cancel),
        "terminate" => reasoned(Action::Terminate),
        "pause" => reasoned(Action::Pause),
        "resume" => Ok(Action::Resume(reason)),
        "retry" => reasoned(Action::Retry),
        "delete" => Ok(Action::Delete),
        _ => Err(Problem::not_found("The page has no such action.")),
    }
}

/// Shows the result of an action. The address only names one of ours.
pub(crate) fn outcome(done: &str) -> Markup {
    let said = DONE.iter().find(|(action, _)| *action == done);
    html! { @if let Some((_, text)) = said { p.flash role="status" { (text) } } }
}

/// The buttons of an instance.
pub(crate) fn forms(shared: &Shared, visit: &Visit, summary: &Summary) -> Markup {
    let path = visit.instance(&summary.workflow, &summary.id);
    let form = |action: &str, label: &str, class: &str, fields: Markup| {
        html! {
            details {
                summary.button { (label) }
                form method="post" action={ (path) "/" (action) } {
                    input type="hidden" name="csrf" value=(shared.csrf);
                    input type="hidden" name="run" value=(summary.run);
                    (fields)
                    button class=(class) { (label) }
                }
            }
        }
    };
    let reason = html! { label { "Why" input name="reason" required maxlength="500" autocomplete="off"; } };
    let signal = html! {
        label { "Signal" input name="name" required autocomplete="off"; }
        label { "Arguments, as JSON" textarea name="payload" placeholder="{\"item\": \"tea\"}" {} }
    };
    html! {
        div.actions {
            @if summary.status.kind() == StatusKind::Failed {
                (form("retry", "Retry tasks", "", html! { (reason) p.note { "Tasks that have failed for good run again, and it goes on from there." } }))
            }
            @if summary.status.is_closed() {
                (form("delete", "Delete", "danger", html! { p.note { "Its summary, its result and its history go. There is no way back." } }))
            } @else {
                @if matches!(summary.status.kind(), StatusKind::Stopped | StatusKind::Paused) {
                    (form("resume", "Resume", "primary", html! { p.note { "Its code is tried again, now." } }))
                } @else {
                    (form("pause", "Pause", "", html! { (reason) p.note { "Its code does not run until it is resumed. What arrives is kept." } }))
                }
                (form("signal", "Signal", "primary", signal))
                (form("cancel", "Cancel", "", html! { (reason) p.note { "Its code is asked to end, and may clean up." } }))
                (form("terminate", "Terminate", "danger", html! { (reason) p.note { "It ends at once. Nothing is compensated." } }))
            }
        }
    }
}

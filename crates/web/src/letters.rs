//! Dead letters: by topic and reason; to look at, to send again, to discard.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Form;
use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::{Html, IntoResponse, Redirect, Response};
use maud::{Markup, html};
use partitura_admin::{Letter, Letterbox, Letters, text};
use partitura_engine::{Destination, InvalidDestination};
use serde::Deserialize;

use crate::context::{Shared, Visit, encode, query};
use crate::error::Problem;
use crate::security::admitted;
use crate::shell::{Place, shell};
use crate::view::moment;

/// How many letters a page shows.
const SHOWN: usize = 100;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Asked {
    reason: String,
    done: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Sent {
    csrf: String,
    id: String,
    reason: String,
    payload: String,
}

/// All of them, by topic and reason.
pub(crate) async fn all(State(shared): State<Arc<Shared>>, visit: Visit) -> Result<Html<String>, Problem> {
    let boxes = shared.admin.all_letters().await.map_err(|error| Problem::from(error).at(&visit))?;
    let now = shared.admin.now();
    let body = html! {
        h1 { "Dead letters" }
        p.note { "Messages that workers have given up, with the reason. They stay until they are sent again or discarded." }
        @if boxes.iter().all(|of| of.letters.is_empty() && of.error.is_none()) {
            p.empty { "None." }
        } @else {
            div.scroll { table.fold {
                thead { tr {
                    th scope="col" { "Of" } th.num scope="col" { "Letters" } th scope="col" { "Reason" } th scope="col" { "Last" }
                } }
                tbody { @for of in &boxes { (groups(&visit, of, now)) } }
            } }
        }
    };
    Ok(shell(&shared, &visit, Place::DeadLetters, "Dead letters", &body))
}

fn groups(visit: &Visit, of: &Letterbox, now: u64) -> Markup {
    let mut reasons: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
    for letter in &of.letters {
        let (count, last) = reasons.entry(&letter.reason).or_default();
        (*count, *last) = (*count + 1, letter.at.max(*last));
    }
    html! {
        @if let Some(error) = &of.error {
            tr { td { (of.destination) } td {} td.wide { "They cannot be read: " (error) } td {} }
        }
        @for (reason, (count, last)) in reasons { tr {
            td { a href={ (path(visit, &of.destination)) (query(&[("reason", reason)])) } { (of.destination) } }
            td.num { (count) }
            td.wide { (text::line(reason, 240)) }
            td { (moment(last, now)) }
        } }
    }
}

fn path(visit: &Visit, of: &Destination) -> String {
    let (kind, name) = of.parts();
    visit.link(&format!("/dead-letters/{kind}/{}", encode(name)))
}

fn named(kind: &str, name: &str) -> Result<Destination, Problem> {
    format!("{kind}/{name}").parse().map_err(|error: InvalidDestination| Problem::not_found(error.to_string()))
}

/// Those of one topic.
pub(crate) async fn one(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path((kind, name)): Path<(String, String)>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Html<String>, Problem> {
    let read = async {
        let of = named(&kind, &name)?;
        let Query(asked) = asked.map_err(|error| Problem::not_found(error.body_text()))?;
        // Reading declares topics, which is not for everybody to do by typing an address.
        if !shared.admin.served().await?.iter().any(|served| served.destination == of) {
            return Err(Problem::not_found(format!("No worker has ever served {of}.")));
        }
        let letters = shared.admin.letters(&of).await?;
        Ok((of, asked, letters))
    };
    let (of, asked, letters) = read.await.map_err(|problem: Problem| problem.at(&visit))?;
    let chosen: Vec<&Letter> =
        letters.iter().filter(|letter| asked.reason.is_empty() || letter.reason == asked.reason).collect();
    let now = shared.admin.now();
    let body = html! {
        @match asked.done.as_str() {
            "redrive" | "edit" => p.flash role="status" { "They are on their way again." },
            "discard" => p.flash role="status" { "They are gone." },
            _ => {}
        }
        div.head {
            p.path { a href=(visit.link("/dead-letters")) { "Dead letters" } }
            h1 { (of) }
            @if !asked.reason.is_empty() { p.note { (asked.reason) " · " a href=(path(&visit, &of)) { "all reasons" } } }
        }
        @if chosen.is_empty() { p.empty { "None." } }
        @if visit.actor().is_some() && !chosen.is_empty() {
            div.actions { (buttons(&shared, &visit, &of, None, &asked.reason, "all of these")) }
        }
        @for letter in chosen.iter().take(SHOWN) { (shown(&shared, &visit, &of, letter, now)) }
        @if chosen.len() > SHOWN { p.note { "The oldest " (SHOWN) " of " (chosen.len()) " or more." } }
    };
    Ok(shell(&shared, &visit, Place::DeadLetters, &of.to_string(), &body))
}

fn shown(shared: &Shared, visit: &Visit, of: &Destination, letter: &Letter, now: u64) -> Markup {
    html! {
        section.panel {
            h2 { (text::line(&letter.reason, 400)) }
            p.note {
                span.mono { (letter.id) } " · given up " (moment(letter.at, now)) " · " (letter.attempts) " attempts"
                @if letter.redriven > 0 { " · sent again " (letter.redriven) " times" }
                @if let Some(key) = &letter.key {
                    " · "
                    @match of {
                        Destination::Workflow(workflow) => a href=(visit.instance(workflow, key)) { (key) },
                        Destination::Service(_) => (key),
                    }
                }
            }
            @if let Some(error) = &letter.error { pre tabindex="0" { (error) } }
            details { summary.note { "Payload" } pre.value tabindex="0" { (letter.payload) } }
            @if visit.actor().is_some() {
                div.actions {
                    (buttons(shared, visit, of, Some(&letter.id), "", "it"))
                    @if letter.is_whole { (editor(shared, visit, of, letter)) }
                }
            }
        }
    }
}

fn buttons(shared: &Shared, visit: &Visit, of: &Destination, id: Option<&str>, reason: &str, what: &str) -> Markup {
    html! {
        @for (action, label, class, note) in [
            ("redrive", "Send again", "primary", "To its topic, under the same id."),
            ("discard", "Discard", "danger", "There is no way back."),
        ] {
            details {
                summary.button { (label) }
                form method="post" action={ (path(visit, of)) "/" (action) } {
                    input type="hidden" name="csrf" value=(shared.csrf);
                    input type="hidden" name="id" value=[id];
                    input type="hidden" name="reason" value=(reason);
                    p.note { (note) }
                    button class=(class) { (label) " " (what) }
                }
            }
        }
    }
}

/// A form with the payload, to be sent again as it is typed.
fn editor(shared: &Shared, visit: &Visit, of: &Destination, letter: &Letter) -> Markup {
    html! {
        details {
            summary.button { "Edit" }
            form method="post" action={ (path(visit, of)) "/edit" } {
                input type="hidden" name="csrf" value=(shared.csrf);
                input type="hidden" name="id" value=(letter.id);
                label { "Payload, as JSON" textarea name="payload" rows="12" spellcheck="false" { (letter.payload) } }
                p.note { "To its topic, under the same id, with this payload." }
                button.primary { "Send it again so" }
            }
        }
    }
}

/// Sends again or discards, and shows what is left.
pub(crate) async fn act(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    headers: HeaderMap,
    Path((kind, name, action)): Path<(String, String, String)>,
    form: Result<Form<Sent>, FormRejection>,
) -> Result<Response, Problem> {
    let done = async {
        let (who, sent) = admitted(&shared, &visit, &headers, form, |sent: &Sent| &sent.csrf)?;
        let of = named(&kind, &name)?;
        if action == "edit" {
            shared.admin.redrive_edited(who, &of, &sent.id, &sent.payload).await?;
            shared.letters.forget();
            return Ok(of);
        }
        let which = match (sent.id, sent.reason) {
            (id, _) if !id.is_empty() => Letters::One(id),
            (_, reason) if !reason.is_empty() => Letters::Of(reason),
            _ => Letters::All,
        };
        match action.as_str() {
            "redrive" => shared.admin.redrive(who, &of, &which).await?,
            "discard" => shared.admin.discard(who, &of, &which).await?,
            _ => return Err(Problem::not_found("The page has no such action.")),
        };
        shared.letters.forget();
        Ok(of)
    };
    let of = done.await.map_err(|problem: Problem| problem.at(&visit))?;
    Ok(Redirect::to(&format!("{}?done={action}", path(&visit, &of))).into_response())
}

//! The services and workflows, their topics, and whether they have workers.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Html;
use maud::html;
use partitura_admin::Working;
use partitura_engine::{Destination, Pausable, Served};

use crate::context::{Shared, Visit, query};
use crate::error::Problem;
use crate::pauses;
use crate::shell::{Place, shell};
use crate::view::moment;

pub(crate) async fn show(State(shared): State<Arc<Shared>>, visit: Visit) -> Result<Html<String>, Problem> {
    let admin = &shared.admin;
    let read = async { tokio::try_join!(admin.topics(), admin.served()) };
    let (topics, served) = read.await.map_err(|error| Problem::from(error).at(&visit))?;
    let asked = admin.clone();
    let workers = shared.workers.read(async move { asked.workers().await.ok() }).await;
    let rows = rows(served, workers.as_deref().unwrap_or_default());
    let now = admin.now();
    let body = html! {
        h1 { "Topics and workers" }
        p.note { "Everything that a worker has served on " (shared.title) ". Backlogs and owners are not part of the contract with brokers yet." }
        @if workers.is_none() { p.note { "Workers are being asked. Reload the page for their answers." } }
        @if rows.is_empty() { p.empty { "No worker has been started yet." } } @else {
            div.scroll { table.fold {
                thead { tr {
                    th scope="col" { "Serves" } th scope="col" { "Workers" } th scope="col" { "Build" }
                    th scope="col" { "Last started" } th scope="col" { "Takes" } th.num scope="col" { "Partitions" } th {}
                } }
                tbody { @for (served, has_worker) in &rows {
                    @let topic = topics.iter().find(|topic| topic.destination == served.destination);
                    tr {
                        td { @match &served.destination {
                            Destination::Workflow(name) => {
                                span.note { "workflow " }
                                a href=(visit.link(&format!("/instances{}", query(&[("workflow", name)])))) { (name) }
                            }
                            Destination::Service(name) => { span.note { "service " } (name) },
                        } }
                        td { @match has_worker {
                            Some(true) => span.status.done { "answers" },
                            Some(false) => span.status.stopped { "no worker answers" },
                            None => span.note { "not known" },
                        } }
                        td.mono { (served.build) }
                        td { @if served.since > 0 { (moment(served.since, now)) } @else { "never" } }
                        td.mono { @if let Some(topic) = topic { (topic.takes) } }
                        td.num { @if let Some(partitions) = topic.and_then(|topic| topic.partitions) { (partitions) } }
                        td { @if visit.actor().is_some() {
                            div.actions { (pauses::pause(&shared, &visit, &pausable(&served.destination))) }
                        } }
                    }
                } }
            } }
        }
    };
    Ok(shell(&shared, &visit, Place::Topics, "Topics and workers", &body))
}

/// All that is served or waited for, each with whether it has workers, as far as that is known.
fn rows(served: Vec<Served>, workers: &[Working]) -> Vec<(Served, Option<bool>)> {
    let is_new = |working: &&Working| served.iter().all(|row| row.destination != working.served.destination);
    let others: Vec<_> = workers.iter().filter(is_new).map(|w| (w.served.clone(), w.has_worker)).collect();
    let with_answer = |row: Served| {
        let working = workers.iter().find(|working| working.served.destination == row.destination);
        (row, working.and_then(|working| working.has_worker))
    };
    served.into_iter().map(with_answer).chain(others).collect()
}

fn pausable(destination: &Destination) -> Pausable {
    match destination {
        Destination::Workflow(name) => Pausable::Workflow(name.clone()),
        Destination::Service(name) => Pausable::Service(name.clone()),
    }
}

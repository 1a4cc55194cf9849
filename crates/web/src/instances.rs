//! The list of instances. All that it is filtered by stands in the address.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Html;
use maud::{Markup, html};
use partitura_admin::{Listing, Search};
use partitura_engine::{InstanceFilter, StatusKind};
use serde::Deserialize;

use crate::context::{Shared, Visit, query};
use crate::error::Problem;
use crate::shell::{Place, shell};
use crate::view::table;

/// How many instances a page shows.
const PAGE: usize = 50;

const WITHIN: [(&str, &str, u64); 5] = [
    ("10m", "10 minutes", 600_000),
    ("1h", "hour", 3_600_000),
    ("1d", "day", 86_400_000),
    ("7d", "week", 604_800_000),
    ("30d", "30 days", 2_592_000_000),
];

/// The filter, as the address has it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Filters {
    workflow: String,
    status: String,
    id: String,
    tag: String,
    parent: String,
    build: String,
    within: String,
    after: String,
}

impl Filters {
    pub(crate) fn search(&self, now: u64) -> Result<Search, Problem> {
        let given = |text: &str| (!text.trim().is_empty()).then(|| text.trim().to_owned());
        let status = match self.status.as_str() {
            "" => None,
            name => Some(
                StatusKind::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| unknown("status", name))?,
            ),
        };
        let since = match self.within.as_str() {
            "" => None,
            name => {
                let found = WITHIN.iter().find(|(short, ..)| *short == name);
                Some(now.saturating_sub(found.ok_or_else(|| unknown("time", name))?.2))
            }
        };
        let mut filter = InstanceFilter::default();
        filter.status.extend(status);
        filter.workflow = given(&self.workflow);
        filter.id_prefix = given(&self.id);
        filter.tag = given(&self.tag);
        filter.build = given(&self.build);
        filter.started_from = since;
        filter.parent = match given(&self.parent) {
            None => None,
            Some(parent) => Some(parent.parse().map_err(|_| unknown("parent", &parent))?),
        };
        Ok(Search { filter, after: given(&self.after), limit: PAGE })
    }

    fn query(&self, after: &str) -> String {
        query(&[
            ("workflow", &self.workflow),
            ("status", &self.status),
            ("id", &self.id),
            ("tag", &self.tag),
            ("parent", &self.parent),
            ("build", &self.build),
            ("within", &self.within),
            ("after", after),
        ])
    }

    fn is_empty(&self) -> bool {
        self.query("").is_empty()
    }
}

fn unknown(what: &str, name: &str) -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "The address is not one of the page's",
        format!("There is no {what} {name:?}."),
    )
}

pub(crate) async fn show(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    filters: Result<Query<Filters>, QueryRejection>,
) -> Result<Html<String>, Problem> {
    let read = async {
        let Query(filters) = filters.map_err(|error| unknown("filter", &error.body_text()))?;
        let now = shared.admin.now();
        let search = filters.search(now)?;
        let (listing, workflows) = tokio::try_join!(shared.admin.list(&search), shared.admin.workflows())?;
        Ok::<_, Problem>(body(&visit, &filters, &listing, &workflows, now))
    };
    let body = read.await.map_err(|problem| problem.at(&visit))?;
    Ok(shell(&shared, &visit, Place::Instances, "Instances", &body))
}

fn body(visit: &Visit, filters: &Filters, listing: &Listing, workflows: &[String], now: u64) -> Markup {
    html! {
        h1 { "Instances" }
        (form(visit, filters, workflows))
        @if listing.instances.is_empty() {
            p.empty {
                @if listing.next.is_some() {
                    "None of those that were looked at. There are more behind them."
                } @else if filters.is_empty() {
                    "No workflow has been started yet."
                } @else {
                    "No instance is like that. " a href=(visit.link("/instances")) { "Show all" }
                }
            }
        } @else {
            (table(visit, &listing.instances, now))
        }
        nav.pages aria-label="Pages" {
            @if !filters.after.is_empty() {
                a.button href=(visit.link(&format!("/instances{}", filters.query("")))) { "First page" }
            }
            @if let Some(next) = &listing.next {
                a.button rel="next" data-key="n" aria-keyshortcuts="n"
                    href=(visit.link(&format!("/instances{}", filters.query(next)))) { "Next page" }
            }
        }
    }
}

fn form(visit: &Visit, filters: &Filters, workflows: &[String]) -> Markup {
    let text = |name: &str, label: &str, hint: &str, value: &str, key: Option<&str>| {
        html! {
            label {
                (label)
                input type="search" name=(name) value=(value) placeholder=(hint) maxlength="600" data-key=[key] autocomplete="off";
            }
        }
    };
    html! {
        form.filters method="get" action=(visit.link("/instances")) role="search" aria-label="Filter the instances" {
            (text("id", "Id begins with", "order-", &filters.id, Some("/")))
            label { "Workflow"
                select name="workflow" {
                    option value="" { "All" }
                    @let is_listed = workflows.contains(&filters.workflow) || filters.workflow.is_empty();
                    @if !is_listed { option value=(filters.workflow) selected { (filters.workflow) } }
                    @for name in workflows { option value=(name) selected[*name == filters.workflow] { (name) } }
                }
            }
            label { "Status"
                select name="status" {
                    option value="" { "All" }
                    @for kind in StatusKind::ALL {
                        option value=(kind.name()) selected[kind.name() == filters.status] { (kind.name()) }
                    }
                }
            }
            label { "Started within"
                select name="within" {
                    option value="" { "Any time" }
                    @for (short, name, _) in WITHIN { option value=(short) selected[short == filters.within] { (name) } }
                }
            }
            (text("tag", "Tag", "", &filters.tag, None))
            (text("build", "Build", "", &filters.build, None))
            @if !filters.parent.is_empty() { (text("parent", "Parent", "", &filters.parent, None)) }
            button { "Filter" }
            @if !filters.is_empty() { a.button href=(visit.link("/instances")) { "Clear" } }
        }
    }
}

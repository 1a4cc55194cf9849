//! The frame of every page.

use axum::response::Html;
use maud::{DOCTYPE, Markup, html};

use crate::context::{Shared, Visit};

/// The parts of the page that the navigation names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Overview,
    Instances,
    DeadLetters,
    Topics,
}

const PLACES: [(Place, &str, &str, &str); 4] = [
    (Place::Overview, "/", "Overview", "o"),
    (Place::Instances, "/instances", "Instances", "i"),
    (Place::DeadLetters, "/dead-letters", "Dead letters", "d"),
    (Place::Topics, "/topics", "Topics", "t"),
];

/// A whole page. One that is `live` is renewed when the server says that it has changed.
pub(crate) fn shell(shared: &Shared, visit: &Visit, place: Place, title: &str, body: &Markup) -> Html<String> {
    let has_session = shared.guard.token.is_some() && shared.guard.authorize.is_none();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            (head(&visit.base, &format!("{title} · {}", shared.title)))
            body data-live=(visit.link("/live")) data-of=(visit.here) {
                a.skip href="#main" { "Skip to the content" }
                header.top { div {
                    a.brand href=(visit.link("/")) { (mark()) "Partitura" }
                    nav aria-label="Parts of the page" {
                        @for (part, path, name, key) in PLACES {
                            a href=(visit.link(path)) aria-current=[(part == place).then_some("page")]
                                data-key=(key) aria-keyshortcuts=(key) { (name) }
                        }
                    }
                    div.where {
                        span.broker { (shared.title) }
                        span.live title="Green while the page renews itself" {}
                        @if has_session && visit.actor().is_some() {
                            form method="post" action=(visit.link("/sign-out")) {
                                input type="hidden" name="csrf" value=(shared.csrf);
                                button { "Sign out" }
                            }
                        } @else if has_session {
                            a href=(visit.link("/sign-in")) { "Sign in to act" }
                        } @else if visit.actor().is_none() {
                            span { "read only" }
                        }
                    }
                } }
                main #main tabindex="-1" { (body) }
                script src=(visit.link("/assets/page.js")) defer {}
            }
        }
    };
    Html(page.into_string())
}

/// A page without navigation.
pub(crate) fn bare(base: &str, title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            (head(base, title))
            body {
                header.top { div { span.brand { (mark()) "Partitura" } } }
                main #main { (body) }
            }
        }
    }
}

fn head(base: &str, title: &str) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            title { (title) }
            link rel="icon" type="image/svg+xml" href={ (base) "/assets/icon.svg" };
            link rel="stylesheet" href={ (base) "/assets/page.css" };
        }
    }
}

/// Two notes on three lines.
fn mark() -> Markup {
    html! {
        svg viewBox="0 0 18 18" fill="none" stroke="currentColor" stroke-width="1.4" stroke-linecap="round" aria-hidden="true" {
            path d="M1 4.5h16M1 9h16M1 13.5h16" opacity=".35" {}
            circle cx="5" cy="13.5" r="2.1" fill="currentColor" stroke="none" {}
            circle cx="12.6" cy="9" r="2.1" fill="currentColor" stroke="none" {}
            path d="M7 13.3V3.2M14.6 8.8V1.6" {}
        }
    }
}

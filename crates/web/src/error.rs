//! The pages that are shown in place of a page.

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{Html, IntoResponse, Response};
use maud::html;
use partitura_admin::AdminError;

use crate::context::Visit;
use crate::shell::bare;

/// Why there is no page.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    title: &'static str,
    text: String,
    /// Where to go on: a link and its text.
    way_out: Option<(String, &'static str)>,
    /// Where the page is mounted, for its style.
    base: String,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, title: &'static str, text: impl Into<String>) -> Self {
        Self { status, title, text: text.into(), way_out: None, base: String::new() }
    }

    pub(crate) fn denied() -> Self {
        let text = "It shows itself to visitors on the machine that serves it, straight and under a local name, and to those who \
                    have the token or whom the application lets in. If this is such a visit, the program does not tell the page \
                    the visitor's address: serve it with `into_make_service_with_connect_info::<SocketAddr>()`.";
        Self::new(StatusCode::FORBIDDEN, "This page is not for you yet", text)
    }

    pub(crate) fn denied_at(visit: &Visit, has_token: bool) -> Self {
        Self { way_out: has_token.then(|| (visit.link("/sign-in"), "Sign in with the token")), ..Self::denied() }
            .at(visit)
    }

    pub(crate) fn read_only() -> Self {
        let text = "Visitors who have neither the token nor the application's permission may look, and not act.";
        Self::new(StatusCode::FORBIDDEN, "You may look, not act", text)
    }

    pub(crate) fn foreign_form() -> Self {
        let text =
            "The form was not sent by this page, or the page was served by another process. Reload it, and try again.";
        Self::new(StatusCode::FORBIDDEN, "Not carried out", text)
    }

    pub(crate) fn not_found(what: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "There is nothing here", what)
    }

    pub(crate) fn at(mut self, visit: &Visit) -> Self {
        self.base.clone_from(&visit.base);
        self.way_out.get_or_insert_with(|| (visit.link("/"), "Overview"));
        self
    }
}

impl From<AdminError> for Problem {
    fn from(error: AdminError) -> Self {
        let (status, title) = match &error {
            AdminError::NotFound { .. } => (StatusCode::NOT_FOUND, "There is no such instance"),
            AdminError::Timeout { .. } => (StatusCode::GATEWAY_TIMEOUT, "It takes too long"),
            AdminError::Refused(_) => (StatusCode::CONFLICT, "That was refused"),
            _ => (StatusCode::BAD_GATEWAY, "The broker or the store does not answer as it should"),
        };
        Self::new(status, title, error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = html! {
            div.narrow {
                h1 { (self.title) }
                p.note { (self.text) }
                @if let Some((link, text)) = &self.way_out { p { a.button href=(link) { (text) } } }
            }
        };
        (self.status, Html(bare(&self.base, self.title, &body).into_string())).into_response()
    }
}

/// Known only behind the guard.
impl<S: Send + Sync> FromRequestParts<S> for Visit {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(Problem::denied)
    }
}

/// The answer to a path that the page does not have.
pub(crate) async fn nothing_there(visit: Visit) -> Problem {
    Problem::not_found("The page has no such address.").at(&visit)
}

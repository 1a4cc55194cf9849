//! The checks around every request: the visitor's right to come in, and the headers for browsers.

use std::sync::Arc;

use axum::Form;
use axum::extract::rejection::FormRejection;
use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::access::{Access, is_same};
use crate::context::{Shared, Visit};
use crate::error::Problem;

/// Only the page's own files are loaded, nothing runs that stands in the page itself, and forms go nowhere else.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// Lets in those who may look.
pub(crate) async fn guard(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let visit = Visit::new(&parts, shared.guard.access(&parts, &shared.session));
    if visit.access == Access::Denied {
        return Problem::denied_at(&visit, shared.guard.token.is_some()).into_response();
    }
    parts.extensions.insert(visit);
    next.run(Request::from_parts(parts, body)).await
}

/// Adds the headers that every answer has. Nothing of the page may stay in a cache that others read.
pub(crate) async fn harden(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let fixed: [(HeaderName, &str); 5] = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Gives the visitor who acts, and the content of the form: of a visitor who may act, and of a form of the page.
pub(crate) fn admitted<'a, T>(
    shared: &Shared,
    visit: &'a Visit,
    headers: &HeaderMap,
    form: Result<Form<T>, FormRejection>,
    csrf: impl FnOnce(&T) -> &str,
) -> Result<(&'a str, T), Problem> {
    let who = visit.actor().ok_or_else(Problem::read_only)?;
    let Form(sent) =
        form.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "That is no form of the page", error.body_text()))?;
    if !is_own_form(shared, headers, csrf(&sent)) {
        return Err(Problem::foreign_form());
    }
    Ok((who, sent))
}

/// Whether a form was sent by the page itself: it carries the page's secret, and the browser says that no other site
/// sent it.
pub(crate) fn is_own_form(shared: &Shared, headers: &HeaderMap, csrf: &str) -> bool {
    let site = headers.get("sec-fetch-site").and_then(|site| site.to_str().ok());
    is_same(csrf, &shared.csrf) && site.is_none_or(|site| matches!(site, "same-origin" | "none"))
}

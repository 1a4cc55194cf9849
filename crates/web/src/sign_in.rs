//! Signing in with the token, for browsers.

use std::sync::Arc;

use axum::Form;
use axum::extract::{Request, State};
use axum::http::header::{LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use maud::html;
use serde::Deserialize;

use crate::access::{Access, COOKIE_NAME};
use crate::context::{Shared, Visit};
use crate::error::Problem;
use crate::security::is_own_form;
use crate::shell::bare;

#[derive(Deserialize)]
pub(crate) struct Token {
    token: String,
}

#[derive(Deserialize)]
pub(crate) struct SignOut {
    csrf: String,
}

/// The form.
pub(crate) async fn show(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    form(&shared, &Visit::new(&parts, Access::Denied), false)
}

fn form(shared: &Shared, visit: &Visit, was_wrong: bool) -> Response {
    if shared.guard.token.is_none() {
        return Problem::not_found("No token is set, so there is nothing to sign in with.").at(visit).into_response();
    }
    let body = html! {
        div.narrow {
            h1 { "Sign in" }
            p.note { "With the token that this page was started with. It allows to act on instances." }
            @if was_wrong { p.flash.bad role="alert" { "That is not the token." } }
            form method="post" action=(visit.link("/sign-in")) {
                input type="password" name="token" aria-label="Token" autocomplete="current-password" required autofocus;
                button.primary { "Sign in" }
            }
        }
    };
    let status = if was_wrong { StatusCode::FORBIDDEN } else { StatusCode::OK };
    (status, Html(bare(&visit.base, "Sign in", &body).into_string())).into_response()
}

/// Gives those who know the token a session.
pub(crate) async fn sign_in(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    use axum::extract::FromRequest;

    let (parts, body) = request.into_parts();
    let visit = Visit::new(&parts, Access::Denied);
    let sent = Form::<Token>::from_request(Request::from_parts(parts, body), &()).await;
    let is_right = sent.is_ok_and(|Form(sent)| shared.guard.is_token(sent.token.trim()));
    tracing::info!(target: "partitura::audit", action = "sign in", accepted = is_right);
    if is_right { redirect(&visit, &shared.session, "") } else { form(&shared, &visit, true) }
}

/// Ends the session of this browser.
pub(crate) async fn sign_out(State(shared): State<Arc<Shared>>, headers: HeaderMap, request: Request) -> Response {
    use axum::extract::FromRequest;

    let (parts, body) = request.into_parts();
    let visit = Visit::new(&parts, Access::Denied);
    match Form::<SignOut>::from_request(Request::from_parts(parts, body), &()).await {
        Ok(Form(sent)) if is_own_form(&shared, &headers, &sent.csrf) => redirect(&visit, "", "; Max-Age=0"),
        _ => Problem::read_only().at(&visit).into_response(),
    }
}

fn redirect(visit: &Visit, session: &str, more: &str) -> Response {
    let path = visit.link("/");
    let cookie = format!("{COOKIE_NAME}={session}; Path={path}; HttpOnly; SameSite=Strict{more}");
    (StatusCode::SEE_OTHER, [(LOCATION, path), (SET_COOKIE, cookie)]).into_response()
}

//! The page's own files, which are part of the program.

use axum::extract::Path;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

use crate::error::Problem;

const CSS: &str = include_str!("../assets/page.css");
const JS: &str = include_str!("../assets/page.js");
const ICON: &str = include_str!("../assets/icon.svg");

/// Serves a file. It is the same for everybody, and changes with the program only.
pub(crate) async fn serve(Path(name): Path<String>) -> Response {
    let (kind, text) = match name.as_str() {
        "page.css" => ("text/css; charset=utf-8", CSS),
        "page.js" => ("text/javascript; charset=utf-8", JS),
        "icon.svg" => ("image/svg+xml", ICON),
        _ => return Problem::not_found("The page has no such file.").into_response(),
    };
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "max-age=300")], text).into_response()
}

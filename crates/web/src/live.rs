//! Tells a page that is shown when it has changed.

use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::{StatusCode, Uri};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde::Deserialize;

use crate::context::Shared;
use crate::error::Problem;
use crate::instances::Filters;

/// How often it is looked at.
const EVERY: Duration = Duration::from_secs(2);
/// For how long; the browser comes back then by itself.
const FOR: u32 = 300;

#[derive(Deserialize)]
pub(crate) struct Of {
    of: String,
}

/// Server-sent events: `changed` when the page of this address would be another.
pub(crate) async fn stream(State(shared): State<Arc<Shared>>, Query(Of { of }): Query<Of>) -> Response {
    let Ok(permit) = shared.live.clone().try_acquire_owned() else {
        let text = "Too many pages renew themselves already; reload this one by hand.";
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Not live", text).into_response();
    };
    let Some(page) = Page::from_address(&of) else {
        return Problem::not_found("This page does not renew itself.").into_response();
    };
    let before = page.state(&shared).await;
    let events =
        stream::unfold((shared, page, before, permit, 0), |(shared, page, mut before, permit, mut looks)| async move {
            while looks < FOR {
                looks += 1;
                tokio::time::sleep(EVERY).await;
                let state = page.state(&shared).await;
                if state.is_some() && state != before {
                    before = state;
                    let changed = Ok::<_, Infallible>(Event::default().event("changed").data("1"));
                    return Some((changed, (shared, page, before, permit, looks)));
                }
            }
            None
        });
    Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))).into_response()
}

/// A page that renews itself.
enum Page {
    Overview,
    Instances(Box<Filters>),
    Instance(String, String),
}

impl Page {
    fn from_address(address: &str) -> Option<Self> {
        let uri: Uri = address.parse().ok()?;
        let parts: Vec<&str> = uri.path().trim_matches('/').split('/').collect();
        match parts[..] {
            [""] => Some(Self::Overview),
            ["instances"] => Query::try_from_uri(&uri).ok().map(|Query(filters)| Self::Instances(Box::new(filters))),
            ["instances", workflow, id] => Some(Self::Instance(decode(workflow)?, decode(id)?)),
            _ => None,
        }
    }

    /// A number that changes with what is shown; `None` if that cannot be read now.
    async fn state(&self, shared: &Shared) -> Option<u64> {
        let admin = &shared.admin;
        match self {
            Self::Overview => {
                let overview = shared.overview().await.ok()?;
                Some(hash(&format!("{overview:?} {:?} {:?}", shared.letters.known(), shared.unserved.known())))
            }
            Self::Instances(filters) => {
                let listing = admin.list(&filters.search(admin.now()).ok()?).await.ok()?;
                Some(hash(&format!("{:?}", listing.instances)))
            }
            Self::Instance(workflow, id) => {
                let instance = admin.glance(workflow, id).await.ok()?;
                Some(hash(&format!("{instance:?}")))
            }
        }
    }
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// A part of a path, as it was before it was encoded.
fn decode(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_what_it_was_before_it_became_part_of_an_address() {
        for id in ["order-42", "a/b ü%", "..", "."] {
            assert_eq!(decode(&crate::context::encode(id)).as_deref(), Some(id));
        }
        assert_eq!(decode("%zz"), None);
        assert_eq!(decode("%4"), None);
    }
}

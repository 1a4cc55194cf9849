//! The shared state of all requests, and the facts about one.

use std::sync::Arc;

use axum::extract::OriginalUri;
use axum::http::request::Parts;
use partitura_admin::{Admin, AdminError, Overview, Working};
use tokio::sync::Semaphore;

use crate::access::{Access, Guard};
use crate::remembered::{Recent, Remembered};

/// How many pages are renewed by themselves at a time; the others are renewed by hand.
const LIVE: usize = 32;

/// The shared state of all requests.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) admin: Admin,
    pub(crate) guard: Guard,
    pub(crate) title: String,
    /// The cookie of those who have signed in.
    pub(crate) session: String,
    /// The token that every form carries that does something.
    pub(crate) csrf: String,
    pub(crate) live: Arc<Semaphore>,
    /// How many dead letters there are, and whether there may be more.
    pub(crate) letters: Remembered<(usize, bool)>,
    /// Services that instances wait for without a sign of a worker.
    pub(crate) unserved: Remembered<Vec<String>>,
    /// Which services and workflows have workers.
    pub(crate) workers: Remembered<Vec<Working>>,
    overview: Recent<Arc<Overview>>,
}

impl Shared {
    pub(crate) fn new(admin: Admin, guard: Guard, title: String) -> Arc<Self> {
        let live = Arc::new(Semaphore::new(LIVE));
        let (session, csrf) = (secret(), secret());
        let (letters, unserved, workers) = (Remembered::default(), Remembered::default(), Remembered::default());
        let overview = Recent::default();
        Arc::new(Self { admin, guard, title, session, csrf, live, letters, unserved, workers, overview })
    }

    /// The deployment at a glance, which all who look at it share.
    pub(crate) async fn overview(&self) -> Result<Arc<Overview>, AdminError> {
        self.overview.read(async { self.admin.overview().await.map(Arc::new) }).await
    }
}

/// 256 bits of chance.
fn secret() -> String {
    let mut bytes = [0; 32];
    #[expect(clippy::expect_used, reason = "documented: there is no page without secrets")]
    getrandom::fill(&mut bytes).expect("the operating system has random numbers");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A request: the visitor, and the page that is wanted.
#[derive(Debug, Clone)]
pub(crate) struct Visit {
    pub(crate) access: Access,
    /// The path before the page's own paths: where the host has nested it.
    pub(crate) base: String,
    /// Path and query within the page.
    pub(crate) here: String,
}

impl Visit {
    pub(crate) fn new(parts: &Parts, access: Access) -> Self {
        let path = parts.uri.path();
        let original = parts.extensions.get::<OriginalUri>().map_or(path, |OriginalUri(uri)| uri.path());
        let base = original.strip_suffix(path).unwrap_or(original).trim_end_matches('/');
        let here = parts.uri.path_and_query().map_or(path, |here| here.as_str());
        Self { access, base: base.to_owned(), here: here.to_owned() }
    }

    /// A link to a path of the page.
    pub(crate) fn link(&self, path: &str) -> String {
        match (path, self.base.as_str()) {
            ("/", "") => "/".to_owned(),
            ("/", base) => base.to_owned(),
            (path, base) => format!("{base}{path}"),
        }
    }

    /// A link to an instance.
    pub(crate) fn instance(&self, workflow: &str, id: &str) -> String {
        format!("{}/instances/{}/{}", self.base, encode(workflow), encode(id))
    }

    /// Gives the name of the visitor, if the visitor may act.
    pub(crate) fn actor(&self) -> Option<&str> {
        match &self.access {
            Access::Act { who } => Some(who),
            _ => None,
        }
    }
}

/// A text as one part of a path, or as the value of a query.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    // Browsers take these parts of a path for steps, also when they are encoded.
    match encoded.as_str() {
        "." => "%2E".to_owned(),
        ".." => "%2E%2E".to_owned(),
        _ => encoded,
    }
}

/// A query of those pairs that have a value: `?a=1&b=2`, or nothing.
pub(crate) fn query(pairs: &[(&str, &str)]) -> String {
    let pairs = pairs.iter().filter(|(_, value)| !value.is_empty());
    let pairs: Vec<String> = pairs.map(|(name, value)| format!("{name}={}", encode(value))).collect();
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_part_of_a_path_whatever_is_in_it() {
        assert_eq!(encode("order/42 ü?#%"), "order%2F42%20%C3%BC%3F%23%25");
        assert_eq!(query(&[("a", "x&y"), ("b", "")]), "?a=x%26y");
    }

    #[test]
    fn two_secrets_differ() {
        assert_ne!(secret(), secret());
        assert_eq!(secret().len(), 64);
    }
}

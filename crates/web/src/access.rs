//! The rights of visitors to see the page, and to act.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::ConnectInfo;
use axum::http::header::{AUTHORIZATION, COOKIE, HOST};
use axum::http::request::Parts;

/// The cookie of those who have signed in with the token.
pub(crate) const COOKIE_NAME: &str = "partitura";

/// Headers that a proxy adds: behind one, every visitor looks local.
const PROXIED: [&str; 4] = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];

/// The rights of a visitor.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Access {
    /// Nothing.
    Denied,
    /// See everything, payloads included.
    Read,
    /// See everything, and act. The name goes into the audit record.
    Act {
        /// The visitor's name.
        who: String,
    },
}

/// Decides about a request by its head: headers, extensions, address.
pub(crate) type Authorize = Arc<dyn Fn(&Parts) -> Access + Send + Sync>;

/// Decides about visitors. Without settings: those on this machine may read.
#[derive(Clone, Default)]
pub(crate) struct Guard {
    pub(crate) token: Option<Arc<str>>,
    pub(crate) authorize: Option<Authorize>,
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (token, authorize) = (self.token.is_some(), self.authorize.is_some());
        f.debug_struct("Guard").field("token", &token).field("authorize", &authorize).finish()
    }
}

impl Guard {
    /// Gives the rights of the visitor who sent this; `session` is the cookie of those who signed in.
    pub(crate) fn access(&self, parts: &Parts, session: &str) -> Access {
        if let Some(authorize) = &self.authorize {
            return authorize(parts);
        }
        if self.has_token(parts) || cookie(parts).is_some_and(|sent| is_same(sent, session)) {
            return Access::Act {
                who: peer(parts).map_or_else(|| "token".to_owned(), |peer| format!("token from {peer}")),
            };
        }
        if is_local(parts) { Access::Read } else { Access::Denied }
    }

    /// Whether this is the token.
    pub(crate) fn is_token(&self, sent: &str) -> bool {
        self.token.as_deref().is_some_and(|token| is_same(sent, token))
    }

    fn has_token(&self, parts: &Parts) -> bool {
        let sent = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        sent.and_then(|sent| sent.strip_prefix("Bearer ")).is_some_and(|sent| self.is_token(sent.trim()))
    }
}

fn cookie(parts: &Parts) -> Option<&str> {
    let all = parts.headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE_NAME).map(|(_, value)| value)
}

/// Compares in a time that does not tell how much of it is right.
pub(crate) fn is_same(sent: &str, kept: &str) -> bool {
    let differs = sent.bytes().zip(kept.bytes()).fold(0, |differs, (one, other)| differs | (one ^ other));
    sent.len() == kept.len() && std::hint::black_box(differs) == 0
}

fn peer(parts: &Parts) -> Option<SocketAddr> {
    parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| *peer)
}

/// Whether the request comes from this machine, straight, and was meant for it: a page of the web that has its name
/// point here sends another host.
fn is_local(parts: &Parts) -> bool {
    let is_proxied = PROXIED.iter().any(|name| parts.headers.contains_key(*name));
    peer(parts).is_some_and(|peer| peer.ip().to_canonical().is_loopback()) && !is_proxied && names_this_machine(parts)
}

fn names_this_machine(parts: &Parts) -> bool {
    let sent = parts.headers.get(HOST).and_then(|host| host.to_str().ok()).or(parts.uri.host());
    let Some(host) = sent else { return false };
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let name = name.map_or(host, |(name, _)| name);
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn parts(peer: Option<&str>, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().uri("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (mut parts, ()) = request.body(()).expect("a request").into_parts();
        if let Some(peer) = peer {
            parts.extensions.insert(ConnectInfo::<SocketAddr>(peer.parse().expect("an address")));
        }
        parts
    }

    #[test]
    fn visitors_of_this_machine_may_read_and_no_others() {
        let guard = Guard::default();
        let access = |peer, headers: &[(&str, &str)]| guard.access(&parts(peer, headers), "session");
        let local = Some("127.0.0.1:9");
        assert_eq!(access(local, &[("host", "localhost:7070")]), Access::Read);
        assert_eq!(access(Some("[::1]:9"), &[("host", "[::1]:7070")]), Access::Read);
        assert_eq!(access(Some("[::ffff:127.0.0.1]:9"), &[("host", "127.0.0.1")]), Access::Read);
        assert_eq!(access(Some("10.0.0.7:9"), &[("host", "localhost")]), Access::Denied);
        assert_eq!(access(local, &[("host", "evil.example")]), Access::Denied, "a name that points here");
        assert_eq!(access(local, &[("host", "localhost"), ("x-forwarded-for", "10.0.0.7")]), Access::Denied);
        assert_eq!(access(None, &[("host", "localhost")]), Access::Denied, "the address is not known");
        assert_eq!(
            access(local, &[("host", "localhost"), ("authorization", "Bearer ")]),
            Access::Read,
            "no token is set"
        );
    }

    #[test]
    fn the_token_lets_act_from_anywhere() {
        let guard = Guard { token: Some("secret".into()), authorize: None };
        let access = |headers: &[(&str, &str)]| guard.access(&parts(Some("10.0.0.7:9"), headers), "session");
        assert!(
            matches!(access(&[("authorization", "Bearer secret")]), Access::Act { who } if who.contains("10.0.0.7"))
        );
        assert!(matches!(access(&[("cookie", "a=b; partitura=session")]), Access::Act { .. }));
        assert_eq!(access(&[("authorization", "Bearer secre")]), Access::Denied);
        assert_eq!(access(&[("cookie", "partitura=secret")]), Access::Denied, "the token is no session");
    }

    #[test]
    fn the_hosts_own_decision_is_the_only_one() {
        let authorize: Authorize = Arc::new(|parts| match parts.headers.get("x-user") {
            Some(user) => Access::Act { who: user.to_str().unwrap_or_default().to_owned() },
            None => Access::Denied,
        });
        let guard = Guard { token: None, authorize: Some(authorize) };
        assert_eq!(guard.access(&parts(Some("127.0.0.1:9"), &[("host", "localhost")]), "s"), Access::Denied);
        let ada = guard.access(&parts(None, &[("x-user", "ada")]), "s");
        assert_eq!(ada, Access::Act { who: "ada".to_owned() });
    }
}

//! Where a server is reached, and with what.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::instance::Ports;

/// The endpoints of one server. What a kind does not have is `None`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Endpoints {
    /// The endpoint for everybody. With RabbitMQ and Postgres, which know no such thing, the URL holds the credentials.
    pub url: String,
    /// Its HTTP interface, without a slash at the end: Pulsar's admin API, RabbitMQ's management API (as guest/guest, or
    /// by [`login`](Self::login)), NATS' monitoring.
    pub admin: Option<String>,
    /// User and password where they are checked: Kafka (SASL PLAIN, and SCRAM-SHA-256 with the same ones), RabbitMQ, NATS
    /// and Postgres. Other ones are refused.
    pub login: Option<Login>,
    /// A token for [`url`](Self::url): for Pulsar a JWT of the role `admin`, for NATS the seed of a user's nkey. Another one
    /// is refused; only Pulsar's admin API takes whoever brings a wrong one for nobody in particular.
    pub token: Option<String>,
    /// The endpoint by TLS. It asks for no certificate of the client.
    pub tls: Option<Tls>,
    /// The endpoint for a proxy, at brokers that tell their clients where to connect. With others put the proxy before
    /// [`url`](Self::url), on any port.
    pub proxied: Option<Proxied>,
}

/// An endpoint where credentials are checked.
#[derive(Clone)]
#[non_exhaustive]
pub struct Login {
    /// Without the credentials in it.
    pub url: String,
    /// The user's name.
    pub user: String,
    /// The user's password.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("url", &self.url).field("user", &self.user).finish_non_exhaustive()
    }
}

/// An endpoint by TLS. The certificate is for `localhost` and `127.0.0.1`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Tls {
    /// By the name `localhost`, and without credentials. What it checks beyond TLS: with Kafka [`Endpoints::login`] by SASL, with
    /// RabbitMQ and Postgres too, with the others nothing.
    pub url: String,
    /// The authority that signed the server's certificate, in PEM.
    pub authority: PathBuf,
    /// Another authority, in PEM, that has signed nothing: who trusts only this one must be refused.
    pub stranger: PathBuf,
}

/// How to get a proxy between a client and a broker that tells its clients where to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Proxied {
    /// Where the proxy connects to.
    pub upstream: SocketAddr,
    /// Where the proxy must listen: the broker tells it to whoever came in by `upstream`.
    pub advertised: SocketAddr,
}

impl Proxied {
    pub(crate) fn new(ports: &Ports) -> Self {
        let at = |port: u16| (Ipv4Addr::LOCALHOST, port).into();
        Self { upstream: at(ports.proxied), advertised: at(ports.advertised) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        let login = Login { url: "a:1".to_owned(), user: "ann".to_owned(), password: "secret".to_owned() };
        let shown = format!("{login:?}");
        assert!(shown.contains("ann") && !shown.contains("secret"), "{shown}");
    }
}

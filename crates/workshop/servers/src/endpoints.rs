//! The addresses of a server, and the credentials for them.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::instance::Ports;

/// The endpoints of one server. An endpoint that a kind does not have is `None`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Endpoints {
    /// The endpoint that checks no credentials. RabbitMQ and Postgres have none, so their URL holds the credentials.
    pub url: String,
    /// Its HTTP interface, without a slash at the end: Pulsar's admin API, RabbitMQ's management API (as guest/guest,
    /// or by [`login`](Self::login)), NATS' monitoring.
    pub admin: Option<String>,
    /// User and password for the endpoint that checks them: Artemis, Kafka (SASL PLAIN, and SCRAM-SHA-256 with the same
    /// ones), RabbitMQ, NATS and Postgres. Other ones are refused.
    pub login: Option<Login>,
    /// A token for [`url`](Self::url): for Pulsar a JWT of the role `admin`, for NATS the seed of a user's nkey.
    /// Another token is refused; only Pulsar's admin API treats a client with a wrong token as one without a token.
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
    /// The URL, without credentials.
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
    /// The URL, with the name `localhost` and without credentials. Beyond TLS, Artemis and Kafka (by SASL), RabbitMQ
    /// and Postgres check [`Endpoints::login`]; the others check nothing.
    pub url: String,
    /// The authority that signed the server's certificate, in PEM.
    pub authority: PathBuf,
    /// Another authority, in PEM, that has signed nothing: a client that trusts only this one must refuse the server.
    pub stranger: PathBuf,
}

/// The addresses for a proxy between a client and a broker that tells its clients where to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Proxied {
    /// The address to which the proxy connects.
    pub upstream: SocketAddr,
    /// The address on which the proxy must listen: the broker tells it to clients that came by `upstream`.
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

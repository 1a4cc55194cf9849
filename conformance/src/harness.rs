use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use partitura_broker::{Broker, Result};

/// How the suite reaches a broker. The one thing that an adapter's author writes.
///
/// Only [`broker`](Self::broker) and [`connect`](Self::connect) are required. Each hook that is missing leaves its cases
/// *not verified*, which is not *passed*.
///
/// ```no_run
/// # use std::sync::Arc;
/// # use partitura_broker::{Broker, Result};
/// # async fn open(url: &str) -> Result<Arc<dyn Broker>> { unimplemented!() }
/// struct Mine;
///
/// #[async_trait::async_trait]
/// impl partitura_conformance::Harness for Mine {
///     fn broker(&self) -> &str { "mine" }
///     async fn connect(&self, _namespace: &str) -> Result<Arc<dyn Broker>> { open("mine://localhost").await }
/// }
///
/// partitura_conformance::main!(Mine);
/// ```
#[async_trait]
pub trait Harness: Send + Sync + 'static {
    /// The broker's name: letters and digits.
    fn broker(&self) -> &str;

    /// Which of several ways to run it this is ("memory", "file", "cluster"); each way runs every case.
    fn variant(&self) -> &str {
        ""
    }

    /// Connects. Called once or more for each case, in any process that was started through [`Processes`].
    ///
    /// Every name of a topic or subscription that a case uses begins with its namespace, so that all may share one
    /// broker. Where giving each namespace a broker of its own is cheap, this is the place to do so; connecting to the
    /// same namespace again leads to the same messages.
    ///
    /// # Errors
    /// Those of connecting.
    async fn connect(&self, namespace: &str) -> Result<Arc<dyn Broker>>;

    /// Whether the broker lives in the process that connects, and is killed with it. Then the suite lets no two processes
    /// connect at once, to kill the broker is to kill that process, and what is about connections and credentials does
    /// not apply.
    fn lives_in_its_client(&self) -> bool {
        false
    }

    /// The hook to start processes that connect, which are then killed.
    fn processes(&self) -> Option<&dyn Processes> {
        None
    }

    /// The hook to kill the broker and to start it again. Not needed where the broker lives in its client.
    fn restart(&self) -> Option<&dyn Restart> {
        None
    }

    /// The hook to connect through a TCP proxy of the suite, which cuts and slows connections.
    fn network(&self) -> Option<&dyn Network> {
        None
    }

    /// The hook to connect with right and wrong credentials and certificates.
    fn access(&self) -> Option<&dyn Access> {
        None
    }

    /// How long the suite waits for something that must come. No measure of speed: only what is stuck exceeds it. A case
    /// is given six times as long in all, one under load sixty times.
    fn patience(&self) -> Duration {
        Duration::from_secs(30)
    }

    /// How many cases may run at the same time. They wait more than they compute.
    fn parallelism(&self) -> usize {
        std::thread::available_parallelism().map_or(8, |cores| 6 * cores.get()).max(8)
    }

    /// Whether the mutants are tried on this way to run the broker: once for each broker, where it is quick.
    fn tries_mutants(&self) -> bool {
        false
    }
}

/// The hook to start processes that connect, which are then killed.
///
/// The suite starts the test's own binary again; there the front door of [`main!`](crate::main) finds the same harness
/// and plays a part of the case.
pub trait Processes: Send + Sync {
    /// Environment variables by which the harness in the new process finds the same broker. None where it is found anyway.
    fn environment(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}

/// The hook to kill the broker (`kill -9`) and to start it again.
#[async_trait]
pub trait Restart: Send + Sync {
    /// Kills it, and returns when it is dead.
    ///
    /// # Errors
    /// What kept it from being killed.
    async fn kill(&self) -> std::io::Result<()>;

    /// Starts it, and returns when it accepts connections.
    ///
    /// # Errors
    /// What kept it from starting.
    async fn start(&self) -> std::io::Result<()>;
}

/// The hook to connect through a TCP proxy of the suite, which cuts, silences, stalls and slows connections.
///
/// A case starts a proxy of its own before [`upstream`](Self::upstream), and connects to where the proxy listens. Clients
/// that are told by the broker where to connect must be told the proxy's address, which is then the same for all cases:
/// see [`listen`](Self::listen).
#[async_trait]
pub trait Network: Send + Sync {
    /// Where the broker listens for what comes through the proxy.
    fn upstream(&self) -> SocketAddr;

    /// Where the proxy listens. Port 0 is any port, for brokers that do not care how they are reached. A fixed port is the
    /// one that the broker's `upstream` listener advertises; then cases through the proxy run one at a time.
    fn listen(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    /// Connects to the same namespace as [`Harness::connect`] and leads to the same messages, by way of `proxy`.
    ///
    /// # Errors
    /// Those of connecting.
    async fn connect(&self, namespace: &str, proxy: SocketAddr) -> Result<Arc<dyn Broker>>;
}

/// The hook to connect with right and wrong credentials and certificates.
#[async_trait]
pub trait Access: Send + Sync {
    /// Connects in this way. May succeed where it should not: the suite then uses the connection, and expects the refusal
    /// there.
    ///
    /// # Errors
    /// What the broker, or the client, has against it.
    async fn connect(&self, namespace: &str, attempt: Attempt) -> Result<Arc<dyn Broker>>;

    /// The passwords and tokens of the attempts, wrong ones included: what no error and no `Debug` may show.
    fn secrets(&self) -> Vec<String>;
}

/// A way to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// With a password, or a token, which the broker knows.
    RightPassword,
    /// With one that it does not know.
    WrongPassword,
    /// By TLS, with the authority that signed the broker's certificate.
    Tls,
    /// By TLS, with another authority.
    TlsWithWrongAuthority,
}

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use partitura_broker::{Broker, Result, SubscriptionName, TopicName};

/// The way in which the suite reaches a broker. An adapter's author writes only this.
///
/// Only [`broker`](Self::broker) and [`connect`](Self::connect) are required. Each hook that is missing leaves its
/// cases *not verified*, which is not *passed*.
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

    /// The name of this way to run it, of several ("memory", "file", "cluster"); each way runs every case.
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

    /// Whether the broker lives in the process that connects, and is killed with it. Then the suite lets no two
    /// processes connect at once, to kill the broker is to kill that process, and cases about connections and
    /// credentials do not apply.
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

    /// The hook to freeze the broker and to thaw it. Not needed where the broker lives in its client.
    fn freeze(&self) -> Option<&dyn Freeze> {
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

    /// The hook to change topics as an operator does, by the broker's own tools. Without it the cases about that do not
    /// apply.
    fn operator(&self) -> Option<&dyn Operator> {
        None
    }

    /// The broker's own names for the places where messages of such a topic and its subscription are: queues,
    /// exchanges, subjects, topics, at least of partition 0. The suite sends replies there, which must not arrive. None
    /// is all right where nothing but the adapter can name a place.
    fn places(&self, _topic: &TopicName, _subscription: &SubscriptionName) -> Vec<String> {
        Vec::new()
    }

    /// The time for which the suite waits for an expected event. It is no measure of speed: only something that is
    /// stuck exceeds it. A whole case has six times as long, one with load sixty times.
    fn time_limit(&self) -> Duration {
        Duration::from_secs(30)
    }

    /// The number of cases that may run at the same time. They wait more than they compute.
    fn parallelism(&self) -> usize {
        std::thread::available_parallelism().map_or(8, |cores| 6 * cores.get()).max(8)
    }

    /// Whether the mutants run in this way to run the broker: choose the fastest way of each broker.
    fn tries_mutants(&self) -> bool {
        false
    }
}

/// The hook to start processes that connect, which are then killed.
///
/// The suite starts the test's own binary again. There [`main!`](crate::main) finds the same harness and runs a part
/// of the case.
pub trait Processes: Send + Sync {
    /// Environment variables by which the harness in the new process finds the same broker. None if it is found without
    /// them.
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
    /// The reason why it could not be killed.
    async fn kill(&self) -> std::io::Result<()>;

    /// Starts it, and returns when it accepts connections.
    ///
    /// # Errors
    /// The reason why it did not start.
    async fn start(&self) -> std::io::Result<()>;
}

/// The hook to freeze the broker (SIGSTOP, a paused container or machine) and to thaw it. Its connections stay open
/// meanwhile, and nobody answers.
#[async_trait]
pub trait Freeze: Send + Sync {
    /// Freezes it, and returns when it does nothing more.
    ///
    /// # Errors
    /// The reason why it could not be frozen.
    async fn freeze(&self) -> std::io::Result<()>;

    /// Lets it go on. Does nothing if it is not frozen.
    ///
    /// # Errors
    /// The reason why it does not go on.
    async fn thaw(&self) -> std::io::Result<()>;
}

/// The hook to change topics as an operator does, by the broker's own tools, while they are in use.
#[async_trait]
pub trait Operator: Send + Sync {
    /// Deletes a topic with all that is in it, and returns when the broker has accepted that.
    ///
    /// # Errors
    /// The reason why it was not deleted.
    async fn delete_topic(&self, topic: &TopicName) -> std::io::Result<()>;

    /// Whether [`count_messages`](Self::count_messages) can tell.
    fn counts_messages(&self) -> bool {
        false
    }

    /// The number of messages of a topic that the broker keeps, for any subscription: 0 if their storage is free. Called
    /// only if the operator [can tell](Self::counts_messages).
    ///
    /// # Errors
    /// The reason why it is not known.
    async fn count_messages(&self, topic: &TopicName) -> std::io::Result<u64> {
        let message = format!("the messages of {topic} cannot be counted");
        Err(std::io::Error::new(std::io::ErrorKind::Unsupported, message))
    }

    /// Whether a topic can get more partitions than it was declared with.
    fn adds_partitions(&self) -> bool {
        false
    }

    /// Gives a topic more partitions, `count` in all. Called only if [`adds_partitions`](Self::adds_partitions).
    ///
    /// # Errors
    /// The reason why it has not got them.
    async fn add_partitions(&self, topic: &TopicName, count: u32) -> std::io::Result<()> {
        let message = format!("{topic} cannot have {count} partitions: they are fixed");
        Err(std::io::Error::new(std::io::ErrorKind::Unsupported, message))
    }
}

/// The hook to connect through a TCP proxy of the suite, which cuts, silences, stalls and slows connections.
///
/// A case starts a proxy of its own before [`upstream`](Self::upstream), and connects to where the proxy listens.
/// Clients that are told by the broker where to connect must be told the proxy's address, which is then the same for
/// all cases: see [`listen`](Self::listen).
#[async_trait]
pub trait Network: Send + Sync {
    /// The address on which the broker listens for connections through the proxy.
    fn upstream(&self) -> SocketAddr;

    /// The address on which the proxy listens. Port 0 is any port, for brokers that do not tell clients their address.
    /// A fixed port is the one that the broker's `upstream` listener advertises; then cases through the proxy run one
    /// at a time.
    fn listen(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    /// Connects to the same namespace and the same messages as [`Harness::connect`], through `proxy`.
    ///
    /// # Errors
    /// Those of connecting.
    async fn connect(&self, namespace: &str, proxy: SocketAddr) -> Result<Arc<dyn Broker>>;
}

/// The hook to connect with right and wrong credentials and certificates.
#[async_trait]
pub trait Access: Send + Sync {
    /// Connects in this way. It may succeed where it should not: the suite then uses the connection, and expects the
    /// refusal there.
    ///
    /// # Errors
    /// The refusal of the broker or of the client.
    async fn connect(&self, namespace: &str, attempt: Attempt) -> Result<Arc<dyn Broker>>;

    /// The rights that [`Attempt::Without`] can do without, if there are users who lack a single one.
    fn rights(&self) -> &[Right] {
        &[]
    }

    /// The passwords and tokens of the attempts, wrong ones included. No error and no `Debug` may show them.
    fn secrets(&self) -> Vec<String>;
}

/// A way to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// With a password or token that the broker knows.
    RightPassword,
    /// With a password or token that the broker does not know.
    WrongPassword,
    /// By TLS, with the authority that signed the broker's certificate.
    Tls,
    /// By TLS, with another authority.
    TlsWithWrongAuthority,
    /// As a user who has all rights but this one: one of [`Access::rights`].
    Without(Right),
}

/// A right that a broker gives to its users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// To create topics and subscriptions.
    Declare,
    /// To publish.
    Publish,
    /// To consume, and to settle.
    Consume,
}

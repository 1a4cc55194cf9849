//! Real brokers and Postgres on this machine, for tests and experiments.
//!
//! ```no_run
//! use partitura_servers::{Kind, Server};
//!
//! let server = Server::new(Kind::Nats);
//! server.up()?; // installs what is missing, starts, waits until it answers; nothing to do if it is up
//! println!("{}", server.url());
//! server.kill()?; // SIGKILL, as a crash would have it
//! server.start()?; // with the data that it had
//! # Ok::<_, partitura_servers::Error>(())
//! ```
//!
//! There is one *standing* instance of each kind, on fixed ports of the loopback interface, below
//! `target/brokers/<kind>`. It outlives the process that started it, and all processes share it: use names of your own
//! on it. It has an endpoint for every need of an adapter's tests, which [`Endpoints`] lists: access without
//! credentials, credentials that are checked, TLS, and an endpoint whose clients are told the address of a proxy.
//!
//! One version of each is tested with every change; [`Release`] says how to choose another. A standing instance of
//! another version has data of its own and the same ports, so that only one of them can be up.
//!
//! The programs are the vendors' own, and run in one of two ways, with the same configuration, ports, credentials and
//! certificates. Where a Docker engine of this machine answers, a server is a container of the vendor's image.
//! Elsewhere it is a process: Artemis, Kafka and Pulsar come as jars from Maven, NATS from its source by Go, RabbitMQ
//! and Postgres from Debian, and downloads are kept under `target/brokers/software`, by version.
//! `PARTITURA_SERVERS=native` or `=docker` chooses one way. An instance keeps its way until it is wiped. `software.rs`
//! describes what a server is, `runtime.rs` where it runs.
//!
//! Passwords and keys in this crate are public, and protect nothing: the servers listen on the loopback interface only.
//!
//! All functions block their thread. In an async test, call them from `spawn_blocking`. Native servers need Linux.

mod build_tools;
mod catalogue;
mod choice;
mod container;
mod debian;
mod deployment;
mod docker;
mod endpoints;
mod engine;
mod error;
mod http;
mod image;
mod install;
mod instance;
mod kind;
mod native;
mod pooler;
mod process;
mod release;
mod requester;
mod runtime;
mod server;
mod software;
mod suite;
mod tls;

mod artemis;
mod java;
mod kafka;
mod nats;
mod postgres;
mod pulsar;
mod rabbitmq;

pub use build_tools::install_build_tools;
pub use endpoints::{Endpoints, Login, Proxied, Tls};
pub use error::{Error, Result};
pub use kind::{Kind, UnknownKind};
pub use pooler::pgbouncer;
pub use release::{Release, UnknownRelease, VERSIONS};
pub use server::{Server, Status};

/// The code of its page is compiled.
#[cfg(doctest)]
mod page {
    #[doc = include_str!("../../../../docs/guides/brokers.md")]
    struct Page;
}

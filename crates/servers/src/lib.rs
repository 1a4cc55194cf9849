//! Real brokers and Postgres on this machine, for tests and trials.
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
//! `target/brokers/<kind>`. It outlives the process that started it, and every process that asks for it shares it: take
//! names of your own on it. It offers everything that an adapter's tests ask of a broker at once, which
//! [`Endpoints`] lists: access without credentials, credentials that are checked, TLS, and an endpoint whose clients are
//! told the address of a proxy.
//!
//! There is one version of each that is tried with every change; [`Release`] says how another is chosen. A standing instance of
//! another version has data of its own and the same ports, so that one of them is up at a time.
//!
//! The programs are the vendors' own, and run in one of two ways, with the same configuration, ports, credentials and
//! certificates. Where a Docker engine of this machine answers, a server is a container of the vendor's image. Elsewhere it is
//! a process: Kafka and Pulsar come as jars from Maven, NATS from its source by Go, RabbitMQ and Postgres from Debian, and what
//! is downloaded is kept under `target/brokers/software`, by its version. `PARTITURA_SERVERS=native` or `=docker` decides it
//! otherwise. An instance stays where it was begun until it is wiped. What runs and how is in `software.rs` and below, where
//! it runs in `runtime.rs` and below.
//!
//! Passwords and keys in this crate are public, and worth nothing: the servers listen on the loopback interface only.
//!
//! Everything here blocks its thread. In an async test, call it from `spawn_blocking`. Natively it needs Linux.

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
mod process;
mod release;
mod requester;
mod runtime;
mod server;
mod software;
mod suite;
mod tls;

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
pub use release::{Release, UnknownRelease, VERSIONS};
pub use server::{Server, Status};

//! The connections to a cluster: Pulsar's binary protocol, by the official client's codec ([`pulsar::message`]), and
//! the admin API.
//!
//! The official client's consumers and producers hide information that the contract depends on, as
//! docs/brokers/pulsar.md explains. So this module keeps the connections itself:
//!
//! ```text
//! Cluster ── the broker that serves a topic, and the connections to brokers
//!   └ Connection ── one socket: commands out, answers and messages in
//!       └ Pending ── the callers that wait for them
//! ```
//!
//! Nothing here tries again or connects again. A loss is reported to all callers, and the next request makes a new
//! connection.

mod admin;
mod cluster;
pub(crate) mod command;
mod connection;
mod identity;
mod pending;
mod reader;
mod socket;
mod tls;
mod vendor;
mod writer;

pub(crate) use admin::{Admin, Partitioned, http_client};
pub(crate) use cluster::{Cluster, Purpose};
pub(crate) use connection::{Registered, acknowledged};
pub(crate) use identity::Identity;
pub(crate) use pending::{ConsumerInput, Incoming, Outcome};
pub(crate) use tls::tls_config;
pub(crate) use vendor::vendor_client;

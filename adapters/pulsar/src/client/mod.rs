//! Pulsar's binary protocol, in the words of the client's own codec ([`pulsar::message`]).
//!
//! The client's consumers and producers hide what the contract depends on (docs/brokers/pulsar.md says what, and why), so
//! that this module keeps the connections itself:
//!
//! ```text
//! Cluster ── which broker serves a topic, and the connections to brokers
//!   └ Connection ── one socket: commands out, answers and messages in
//!       └ Table ── who waits for which of them
//! ```
//!
//! Nothing here tries again or connects again: what is lost is told, and made anew by whoever needs it.

mod admin;
mod cluster;
pub(crate) mod command;
mod connection;
mod identity;
mod reader;
mod socket;
mod table;
mod tls;
mod vendor;
mod writer;

pub(crate) use admin::{Admin, Partitioned, http_client};
pub(crate) use cluster::{Cluster, Purpose};
pub(crate) use connection::{Registered, acknowledged};
pub(crate) use identity::Identity;
pub(crate) use table::{Incoming, Outcome};
pub(crate) use tls::tls_config;
pub(crate) use vendor::vendor_client;

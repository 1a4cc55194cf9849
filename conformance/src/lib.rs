//! The conformance suite: the duties of a broker's adapter for Partitura, as cases that check it.
//!
//! The author of an adapter for any broker implements the contract of [`partitura_broker`], writes a [`Harness`] of
//! about twenty lines, and puts [`main!`] into a test with `harness = false`. The test shows which properties hold.
//!
//! * **One recorder.** A [`Recorder`] wraps the broker under test and writes a [`History`]: each request, answer and
//!   delivery, with its time and process.
//! * **Pure checks.** The functions of [`check`] judge a history and nothing else, and have tests of their own. Those
//!   of [`check::CONTRACT`] run after every case.
//! * **Mutants.** A hundred brokers and lanes that break one promise each ([`mutants::all`]) must fail the case that
//!   each names.
//! * **Honest answers.** A case passes, fails, is *unsupported* (the broker declares that it lacks the capability),
//!   *not verified* (the harness has no such hook) or *not applicable* (for example, there is no network whose
//!   connections could be cut). A run without a case is a failure.
//!
//! `docs/conformance.md` is the specification: every case, its property, its tier and its needs.

mod case;
pub mod cases;
pub mod check;
mod client;
#[cfg(feature = "containers")]
mod container;
mod env;
mod front;
mod harness;
mod history;
mod lanes;
pub mod mutants;
mod own_key;
#[cfg(any(feature = "containers", test))]
mod ports;
mod process;
mod proxy;
mod recorder;
mod recording;
mod report;
mod role;
mod runner;
mod settings;
mod stop;
mod subject;

pub use case::{Case, Need, Tier};
pub(crate) use env::Env;
pub use front::run;
pub use harness::{Access, Attempt, Freeze, Harness, Network, Operator, Processes, Restart, Right};
pub use history::{Delivered, Entry, History, Record, Sent, Token};
pub use recorder::{Counts, Recorder};
pub(crate) use stop::{CaseResult, Stop};

/// A harness over a container of any image.
#[cfg(feature = "containers")]
pub mod containers {
    pub use testcontainers::core::{ContainerPort, IntoContainerPort, Mount, WaitFor};
    pub use testcontainers::{ContainerRequest, GenericImage, ImageExt};

    pub use crate::container::{Addresses, Contained, OnContainer};
}

/// The code of its page is compiled.
#[cfg(doctest)]
mod page {
    #[doc = include_str!("../../docs/conformance.md")]
    struct Page;
}

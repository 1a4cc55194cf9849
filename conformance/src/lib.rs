//! The exam: what a broker's adapter must do for Partitura, and whether it does.
//!
//! Somebody with a broker that we never heard of implements the contract of [`partitura_broker`], writes a [`Harness`] of
//! some twenty lines, puts [`main!`] into a test with `harness = false`, and learns what holds and what does not.
//!
//! * **One instrument.** A [`Recorder`] wraps the broker under test and writes a [`History`]: what was asked, answered and
//!   delivered, when, and by which process.
//! * **Pure judgement.** The functions of [`check`] look at a history and at nothing else, and have tests of their own.
//!   Those of [`check::CONTRACT`] run after every case.
//! * **Mutants.** A hundred brokers, and lanes, that break one promise each ([`mutants::all`]) must fail a case named
//!   beforehand.
//! * **Honest answers.** A case passes, fails, is *unsupported* (the broker declares that it cannot), *not verified* (the
//!   harness has no such hook) or *not applicable* (there is no network whose connections could be cut). A run without a
//!   case is a failure.
//!
//! `docs/conformance.md` is the specification: every case, its property, its tier and what it needs.

mod case;
pub mod cases;
pub mod check;
mod client;
mod env;
mod floor;
mod front;
mod harness;
mod history;
pub mod mutants;
mod process;
mod proxy;
mod recorder;
mod recording;
mod report;
mod runner;
mod settings;

pub use case::{Case, Need, Tier};
pub(crate) use case::{CaseResult, Stop};
pub(crate) use env::Env;
pub use front::run;
pub use harness::{Access, Attempt, Harness, Network, Processes, Restart};
pub use history::{Delivered, Entry, History, Record, Sent, Token};
pub use recorder::{Counts, Recorder};

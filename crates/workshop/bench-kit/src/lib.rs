//! The common part of Partitura's benchmarks. It knows the contract and no adapter, so that adapters measure
//! themselves with it.
//!
//! A benchmark is a [closed loop](closed_loop): a number of clients, each with one request in flight, until a number of
//! requests are done. The result is a [`Measure`], in the form of the lines of the other engines' benchmarks. It has
//! the use of the machine's processors meanwhile, so that a figure that was taken beside other work shows it.
//!
//! An adapter is measured [against] the raw client below it, in turns on the same broker, by an example of its crate.
//!
//! The programs are in `benches/` and in the adapters' examples; `cargo xtask bench` runs them.

pub mod against;
mod closed_loop;
mod latencies;
mod measure;
mod process;
mod usage;

pub use closed_loop::{Timed, closed_loop};
pub use latencies::Latencies;
pub use measure::{Measure, table};
pub use process::Process;
pub use usage::Usage;

/// A reason for which a measurement cannot be made.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

//! What Partitura's benchmarks share.
//!
//! A benchmark is a [closed loop](closed_loop): so many clients, each with one request in flight, until so many requests are
//! done. What comes out is a [`Measure`], in the line shape in which the peers' benchmarks report too, with who used the
//! machine's processors meanwhile: a figure that was taken beside other work says so.
//!
//! An adapter is measured [against] the raw client below it, in turns on the same broker, by an example of its crate.
//!
//! The programs are in `src/bin`; `cargo xtask bench` runs them.

pub mod against;
mod closed_loop;
mod latencies;
mod measure;
mod usage;

pub use closed_loop::{Timed, closed_loop};
pub use latencies::Latencies;
pub use measure::{Measure, table};
pub use usage::Usage;

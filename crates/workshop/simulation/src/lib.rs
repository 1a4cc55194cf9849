//! Partitura's engine and lanes in a seeded world.
//!
//! A *world* has a broker, perhaps a store, a clock, one to three worker processes and a client, all in one thread and
//! in virtual time. One number, the seed, decides everything: the workflows and the actions on them, the duration of
//! each request, the failures, the duplicates, and the two effects between which a process dies. So a world that shows
//! a bug shows it each time.
//!
//! ```text
//!  seed ─► plan (which faults, how often) ─► world: broker, store, clock, agenda of mishaps
//!                                              ▲ effects: each may fail, be late, or be the last of its process
//!                                  processes: the real engine on the real lanes, crashing and coming back
//! ```
//!
//! One world of four has no faults: workers join, leave and share, and every task and step is called once. In the
//! others there are faults for a while. Then they end, and the world must come to rest: every workflow has ended, once,
//! as its model says. The audit checks commits, published messages and calls, never the engine itself.
//!
//! [`Mutant`]s are worlds that break a promise on which the engine relies. They show that the audit notices it.
//!
//! In the spirit of FoundationDB's simulation and TigerBeetle's VOPR.

mod actors;
mod agenda;
mod audit;
mod broken;
mod broker;
mod calls;
mod catalogue;
mod checks;
mod deeds;
mod ids;
mod keys;
mod model;
mod mutant;
mod plan;
mod process;
mod random;
mod report;
mod rows;
mod service;
mod simulate;
mod store;
mod trace;
mod world;

pub use mutant::Mutant;
pub use report::{Report, Violation};
pub use simulate::{Options, simulate};

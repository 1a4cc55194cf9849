//! Partitura's engine and lanes in a seeded world.
//!
//! A *world* has a broker, perhaps a store, a clock, one to three worker processes and a client, all in one thread and in
//! virtual time. One number, the seed, decides about everything: which workflows there are and what is done to them, how
//! long each request takes, what fails, what happens twice, who dies between which two effects. So a world that shows a
//! bug shows it each time.
//!
//! ```text
//!  seed ─► plan (which faults, how often) ─► world: broker, store, clock, agenda of mishaps
//!                                              ▲ effects: each may fail, be late, or be the last of its process
//!                                  processes: the real engine on the real lanes, crashing and coming back
//! ```
//!
//! In one world of four nothing goes wrong: workers join, leave and share, and every task and step is called once.
//! Elsewhere things go wrong for a while; then the world calms down, and has to come to rest: every workflow ended, once, as its
//! model says. The audit looks at what was committed, published and called, never at the engine.
//!
//! [`Mutant`]s are worlds that break a promise which the engine builds upon. They show that the audit would notice.
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

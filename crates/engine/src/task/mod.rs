//! The handler of a service's tasks: runs a method, reports its result, or arranges for another attempt.
//!
//! ```text
//! delivery ─► does it run here already? ─► is it still wanted? ─► method ─► report ─► settled
//!                                          (later attempts)        │  ▲
//!                                                      heartbeats, │  │ "not wanted any more"
//!                                                      every 30 s  ▼  │
//!                                                            the instance's owner
//! ```
//!
//! * A method that has returned is not called again: its [report] is sent until it is taken.
//! * A method that runs longer than the broker lets a delivery be held runs on: see [lease].

mod admission;
mod attempt;
mod batches;
mod call;
pub(crate) mod context;
mod elsewhere;
mod gathering;
mod handler;
mod lease;
pub(crate) mod letter;
pub(crate) mod limits;
mod pausing;
pub(crate) mod policy;
mod pulse;
pub(crate) mod rates;
mod report;
mod runner;
mod running;
mod stuck;

pub(crate) use self::runner::{Parts, TaskRunner};

//! Tests of the contract's promises on the embedded broker.

// Helpers may panic as tests may.
#![allow(clippy::unwrap_used)]

mod cancel;
mod cancelled;
mod crash;
mod delay;
mod fanout;
mod files;
mod flow;
mod model;
mod order;
mod ownership;
mod support;
mod topology;
mod transactions;

//! Tests of behaviour that the conformance suite does not ask for, on the standing instance of `cargo xtask brokers`.

mod declaring;
mod delays;
mod identity;
mod support;
mod wire;

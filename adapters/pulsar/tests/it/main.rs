//! What the conformance suite does not ask, on the standing instance of `cargo xtask brokers`.

mod declaring;
mod delays;
mod identity;
mod support;
mod wire;

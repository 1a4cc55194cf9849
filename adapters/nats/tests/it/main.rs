//! What the conformance suite does not ask, because it is NATS's own. Against the standing server of this machine.

mod access;
mod ownership;
mod streams;
mod support;
mod topology;

//! Tests of NATS's own behaviour, which the conformance suite does not check. They use the standing server of this
//! machine.

mod access;
mod ownership;
mod streams;
mod support;
mod topology;

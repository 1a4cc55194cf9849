//! What the contract promises, tried on the embedded broker.

mod order;
mod support;

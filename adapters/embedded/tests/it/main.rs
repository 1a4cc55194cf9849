//! What the contract promises, tried on the embedded broker.

mod cancel;
mod crash;
mod delay;
mod fanout;
mod files;
mod flow;
mod order;
mod ownership;
mod support;
mod topology;
mod transactions;

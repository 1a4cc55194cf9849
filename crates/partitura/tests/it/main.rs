//! The engine through the front door, on the embedded broker.

mod bad_input;
mod events;
mod lifecycle;
mod recovery;
mod scenarios;
mod support;
mod tasks;
mod virtual_time;

//! The lanes over the embedded broker, in memory, under tokio's paused clock: backoffs take no time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod dead_letters;
mod flow;
mod hand_over;
mod parking;
mod retry;
mod support;
mod suspects;
mod typed;

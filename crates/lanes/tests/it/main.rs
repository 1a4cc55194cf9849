//! The lanes over the embedded broker, in memory, under tokio's paused clock: backoffs take no time.

mod dead_letters;
mod flow;
mod hand_over;
mod parking;
mod retry;
mod support;
mod typed;

//! The page on the embedded broker, asked as a browser asks it.

mod acting;
mod looking;
mod probes;
mod safety;
mod sharing;
mod support;

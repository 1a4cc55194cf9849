//! The spans that are exported.

mod exported;
mod traces;

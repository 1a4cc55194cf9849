//! Tests of the simulation itself: it reproduces, it finds nothing without a bug, and it finds each deliberate bug.

mod mutants;
mod worlds;

//! The simulation itself is simulated: it reproduces, it is clean, and it finds what is put in.

mod mutants;
mod worlds;

//! The command that writes a harness.

mod new;

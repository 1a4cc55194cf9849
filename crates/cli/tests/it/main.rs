//! The command on the embedded broker: within this process, since its file has one owner, and as a process once that is
//! closed.

mod deployment;
mod operating;
mod process;
mod verbs;

/// The project of `partitura new` compiles, and its own test passes.
#[path = "../../template/src/main.rs"]
#[allow(dead_code, missing_docs, unreachable_pub, reason = "it is a program of its own")]
mod project;

//! `cargo xtask bench`: the engine's benchmarks, built and run in release mode.

use std::ffi::OsString;
use std::process::Command;

use crate::Failure;

/// Passed on to the benchmark as they are; `cargo xtask bench -- --help` lists them.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Workloads to run (all of them without a name), and the benchmark's own options, such as --json.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "NAME|OPTION")]
    arguments: Vec<OsString>,
}

/// Builds the benchmark and hands its terminal over: a table on stderr, with `--json` one line per measure on stdout.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let status = Command::new(env!("CARGO"))
        .args(["run", "--release", "--locked", "--package", "partitura-benches", "--bin", "engine", "--"])
        .args(&arguments.arguments)
        .status()
        .map_err(|error| format!("cannot start cargo for the benchmark: {error}"))?;
    if status.success() {
        return Ok(());
    }
    Err(format!("the benchmark ended with {status}; what it said is above").into())
}

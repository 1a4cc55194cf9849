//! `cargo xtask simulate`: the engine and the lanes in seeded worlds, built and run in release mode.

use std::ffi::OsString;

use crate::cargo::cargo;
use crate::failure::Failure;

/// Arguments that are passed on to the simulation unchanged; `cargo xtask simulate -- --help` lists them.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// `--seeds N`, `--from SEED`, `--json`, `--trace`, `--mutant NAME`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTION")]
    arguments: Vec<OsString>,
}

/// Builds the simulation and runs it on this terminal: failures on stderr, with `--json` one line on stdout.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let status = cargo()
        .args(["run", "--quiet", "--release", "--locked", "--package", "partitura-simulation", "--"])
        .args(&arguments.arguments)
        .status()
        .map_err(|error| format!("cannot start cargo for the simulation: {error}"))?;
    if status.success() {
        return Ok(());
    }
    Err("a world failed; its seed is above, and reproduces the failure".into())
}

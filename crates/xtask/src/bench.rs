//! `cargo xtask bench`: the benchmarks, built and run in release mode.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use partitura_servers::{Kind, Server};

use crate::Failure;

/// Without a broker's name: the engine's workloads on the embedded broker; options are passed on to them, and
/// `cargo xtask bench -- --help` lists them. With names of brokers: each adapter against its raw client.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Brokers to measure an adapter on; else workloads of the engine (all without a name), and options such as --json.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "NAME|OPTION")]
    arguments: Vec<OsString>,
}

/// Builds the benchmarks and hands its terminal over: a table on stderr, one line of JSON per measure on stdout.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let brokers = brokers(&arguments.arguments);
    if brokers.is_empty() {
        return cargo(
            ["--package", "partitura-benches", "--bin", "engine", "--"].map(OsString::from),
            &arguments.arguments,
        );
    }
    for broker in brokers {
        if let Ok(kind) = broker.parse::<Kind>() {
            Server::new(kind).up()?;
        }
        let package = format!("partitura-{broker}");
        let example = format!("{broker}_against_raw");
        cargo(["--package", &package, "--example", &example].map(OsString::from), &[])?;
    }
    Ok(())
}

/// Those of the arguments that name an adapter with such a benchmark.
fn brokers(arguments: &[OsString]) -> Vec<&str> {
    let names = arguments.iter().filter_map(|argument| argument.to_str());
    let example = |name: &str| Path::new("adapters").join(name).join(format!("examples/{name}_against_raw.rs"));
    names.filter(|name| example(name).exists()).collect()
}

fn cargo<const N: usize>(what: [OsString; N], arguments: &[OsString]) -> Result<(), Failure> {
    let status = Command::new(env!("CARGO"))
        .args(["run", "--release", "--locked"])
        .args(what)
        .args(arguments)
        .status()
        .map_err(|error| format!("cannot start cargo for the benchmark: {error}"))?;
    if status.success() {
        return Ok(());
    }
    Err(format!("the benchmark ended with {status}; what it said is above").into())
}

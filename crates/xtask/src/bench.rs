//! `cargo xtask bench`: the benchmarks, built and run in release mode.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

use partitura_servers::{Kind, Server};

use crate::Failure;

/// The benchmark of the pure core.
const REPLAY: &str = "replay";
/// Where it leaves what it measured.
const CRITERION: &str = "target/criterion";

/// Without a name: the engine's workloads on the embedded broker; options are passed on to them, and
/// `cargo xtask bench -- --help` lists them. With names of brokers: each adapter against its raw client. With `replay`: how long
/// an instance takes to be rebuilt.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// `replay`; or brokers to measure an adapter on; else workloads of the engine (all without a name), and options such as --json.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "NAME|OPTION")]
    arguments: Vec<OsString>,
}

/// Builds the benchmarks and hands its terminal over: a table on stderr, one line of JSON per measure on stdout.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    if arguments.arguments.first().is_some_and(|name| name == REPLAY) {
        return replay(&arguments.arguments[1..]);
    }
    let brokers = brokers(&arguments.arguments);
    if brokers.is_empty() {
        let engine = ["--release", "--package", "partitura-benches", "--bin", "engine", "--"];
        return cargo("run", &engine, &arguments.arguments);
    }
    for broker in brokers {
        if let Ok(kind) = broker.parse::<Kind>() {
            Server::new(kind).up()?;
        }
        let (package, example) = (format!("partitura-{broker}"), format!("{broker}_against_raw"));
        cargo("run", &["--release", "--package", &package, "--example", &example], &[])?;
    }
    Ok(())
}

/// Runs Criterion, whose report is for people, and tells programs the medians.
fn replay(options: &[OsString]) -> Result<(), Failure> {
    cargo("bench", &["--package", "partitura-benches", "--bench", REPLAY, "--"], options)?;
    for group in fs::read_dir(CRITERION)? {
        let group = group?;
        for function in ["decode", "replay"] {
            let Ok(text) = fs::read(group.path().join(function).join("new/estimates.json")) else { continue };
            let estimates: serde_json::Value = serde_json::from_slice(&text)?;
            let Some(nanoseconds) = estimates["median"]["point_estimate"].as_f64() else { continue };
            let (workload, p50_ms) = (group.file_name(), (nanoseconds / 1e3).round() / 1e3);
            let line = serde_json::json!({
                "peer": "partitura", "workload": workload.to_string_lossy(), "measure": function, "p50_ms": p50_ms,
            });
            println!("{line}");
        }
    }
    Ok(())
}

/// Those of the arguments that name an adapter with such a benchmark.
fn brokers(arguments: &[OsString]) -> Vec<&str> {
    let names = arguments.iter().filter_map(|argument| argument.to_str());
    let example = |name: &str| Path::new("adapters").join(name).join(format!("examples/{name}_against_raw.rs"));
    names.filter(|name| example(name).exists()).collect()
}

fn cargo(command: &str, what: &[&str], arguments: &[OsString]) -> Result<(), Failure> {
    let status = Command::new(env!("CARGO"))
        .args([command, "--locked"])
        .args(what)
        .args(arguments)
        .status()
        .map_err(|error| format!("cannot start cargo for the benchmark: {error}"))?;
    if status.success() {
        return Ok(());
    }
    Err(format!("the benchmark ended with {status}; what it said is above").into())
}

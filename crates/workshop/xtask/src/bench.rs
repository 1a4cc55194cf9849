//! `cargo xtask bench`: the benchmarks, built and run in release mode.

use std::ffi::OsString;
use std::fs;
use std::process::Command;

use partitura_servers::{Kind, Server};

use crate::brokers::install_build_tools;
use crate::cargo::{self, build, directory};
use crate::failure::Failure;

/// The benchmark of the pure core.
const REPLAY: &str = "replay";
/// The cost of long and wide workflows.
const CURVES: &str = "curves";
/// The resources that a worker takes of a machine.
const RESOURCES: [&str; 2] = ["idle", "memory"];
/// Lists and searches of many instances.
const PAGES: &str = "pages";
/// The directory of its results.
const CRITERION: &str = "target/criterion";

/// The network brokers whose workers are measured without a name.
const ALL: [Kind; 4] = [Kind::Nats, Kind::Rabbitmq, Kind::Kafka, Kind::Pulsar];

/// Without a name: the engine's workloads, on the embedded broker or on that of `--broker URL --store URL`; options are
/// passed on to them, and `cargo xtask bench -- --help` lists them. With names of brokers: each adapter against its raw
/// client. With `idle`: what workers without work take of a machine. With `memory`: the memory of a consumer before
/// which large messages wait. Both take names of brokers, or `--broker URL`. With `curves`: the time for each task and
/// the memory of workflows with many tasks. With `replay`: the time that the replay of an instance takes. With `pages`:
/// the time that lists, searches and counts of a million instances take, on the embedded store or that of `--store URL`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// `replay`, `curves`, `idle`, `memory` or `pages`; or brokers to measure an adapter on; else workloads of the
    /// engine (all without a name), and options such as --json.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "NAME|OPTION")]
    arguments: Vec<OsString>,
}

/// Builds the benchmarks and runs them on this terminal: a table on stderr, one line of JSON per measure on stdout.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    if arguments.arguments.first().is_some_and(|name| name == REPLAY) {
        return replay(&arguments.arguments[1..]);
    }
    if let Some((first, rest)) = arguments.arguments.split_first()
        && let Some(workload) = RESOURCES.into_iter().find(|workload| first == workload)
    {
        return resources(workload, rest);
    }
    if let Some((first, rest)) = arguments.arguments.split_first()
        && let Some(program) = [CURVES, PAGES].into_iter().find(|program| first == program)
    {
        return engine(program, rest);
    }
    let brokers = brokers(&arguments.arguments);
    if brokers.is_empty() {
        return engine("engine", &arguments.arguments);
    }
    against_raw(&brokers)
}

/// Runs a program that measures the engine.
fn engine(program: &str, arguments: &[OsString]) -> Result<(), Failure> {
    let features = features(arguments);
    install_build_tools(features.iter().copied())?;
    let features = format!("--features={}", features.join(","));
    let program = ["--release", "--package", "partitura-benches", "--bin", program, &features, "--"];
    cargo("run", &program, arguments)
}

/// Measures workers on each broker that is named, by its name or by `--broker URL`; else on all. Servers that are named
/// are started.
fn resources(workload: &str, arguments: &[OsString]) -> Result<(), Failure> {
    let kind = |argument: &OsString| argument.to_str()?.parse::<Kind>().ok();
    let (named, options): (Vec<_>, Vec<_>) = arguments.iter().cloned().partition(|argument| kind(argument).is_some());
    let is_given = options.iter().filter_map(|option| option.to_str()).any(|option| option.starts_with("--broker"));
    let named: Vec<Kind> = named.iter().filter_map(kind).collect();
    let kinds = if named.is_empty() && !is_given { ALL.to_vec() } else { named };
    let features: Vec<&str> = kinds.iter().map(|kind| kind.name()).chain(features(&options)).collect();
    install_build_tools(features.iter().copied())?;
    let features = format!("--features={}", features.join(","));
    let program = ["--release", "--package", "partitura-benches", "--bin", "resources", &features, "--", workload];
    if is_given {
        cargo("run", &program, &options)?;
    }
    for kind in kinds {
        let server = Server::new(kind);
        server.up()?;
        let broker = ["--broker".to_owned(), server.url()].map(OsString::from);
        cargo("run", &program, &broker.into_iter().chain(options.iter().cloned()).collect::<Vec<_>>())?;
    }
    Ok(())
}

/// Measures one after the other, so that each has the machine to itself.
fn against_raw(brokers: &[&str]) -> Result<(), Failure> {
    let examples = brokers.iter().map(|broker| format!("--example={}", against_raw_of(broker)));
    let arguments = ["build", "--release"].map(str::to_owned).into_iter().chain(examples);
    let executables = build(brokers.iter().copied(), &arguments.collect::<Vec<_>>())?;
    for broker in brokers {
        if let Ok(kind) = broker.parse::<Kind>() {
            Server::new(kind).up()?;
        }
        let executable = executables.get(*broker).ok_or_else(|| format!("cargo built no benchmark of {broker}"))?;
        succeed(&mut Command::new(executable))?;
    }
    Ok(())
}

/// Runs Criterion, whose report is for people, and prints the medians for programs.
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

/// Returns the arguments that name an adapter with such a benchmark.
fn brokers(arguments: &[OsString]) -> Vec<&str> {
    let names = arguments.iter().filter_map(|argument| argument.to_str());
    let source = |name: &str| directory(name).join("examples").join(against_raw_of(name) + ".rs");
    names.filter(|name| source(name).exists()).collect()
}

/// Returns the features for the engine's benchmark, so that it can connect to the URLs among the arguments.
fn features(arguments: &[OsString]) -> Vec<&'static str> {
    let texts = arguments.iter().filter_map(|argument| argument.to_str());
    // `--broker URL` and `--broker=URL`.
    let scheme =
        |text: &'_ str| text.split_once("://").and_then(|(before, _)| before.rsplit('=').next().map(str::to_owned));
    let schemes = texts.filter_map(scheme);
    let feature = |scheme: String| match &*scheme {
        "amqp" | "amqps" => Some("rabbitmq"),
        "amqp10" | "amqps10" => Some("amqp"),
        "kafka" => Some("kafka"),
        "nats" | "tls" => Some("nats"),
        "postgres" | "postgresql" => Some("postgres"),
        "pulsar" | "pulsar+ssl" => Some("pulsar"),
        _ => None,
    };
    schemes.filter_map(feature).collect()
}

fn against_raw_of(broker: &str) -> String {
    format!("{broker}_against_raw")
}

fn cargo(command: &str, what: &[&str], arguments: &[OsString]) -> Result<(), Failure> {
    succeed(cargo::cargo().args([command, "--locked"]).args(what).args(arguments))
}

fn succeed(command: &mut Command) -> Result<(), Failure> {
    let program = command.get_program().display().to_string();
    let status = command.status().map_err(|error| format!("cannot start {program}: {error}"))?;
    if status.success() {
        return Ok(());
    }
    Err(format!("the benchmark ended with {status}; its output is above").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_urls_name_is_built() {
        let of = |arguments: &[&str]| features(&arguments.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(of(&["seq", "--json"]), [""; 0]);
        let both = ["--broker", "amqp://guest@localhost/%2f?a=b", "--store=postgres://u:p@h/d?sslmode=disable"];
        assert_eq!(of(&both), ["rabbitmq", "postgres"]);
        assert_eq!(of(&["--broker=tls://h"]), ["nats"]);
        assert_eq!(of(&["--broker", "amqp10://h?profile=artemis"]), ["amqp"]);
    }
}

//! `cargo xtask scenarios`, on each broker: tests of workflows, workers that join and leave, and an example whose
//! processes are killed.

use std::path::Path;

use partitura_servers::{Release, VERSIONS};

use crate::brokers::install_build_tools;
use crate::cargo::{adapter, cargo};
use crate::conformance::unversioned;
use crate::failure::Failure;
use crate::trials;

/// The names of brokers in the facade's tests. The first one needs no server.
const BROKERS: [&str; 6] = ["embedded", "artemis", "kafka", "nats", "pulsar", "rabbitmq"];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Brokers to run on, as kafka or kafka@3.7.2; without a name, all.
    #[arg(value_parser = known)]
    names: Vec<String>,
    /// Every trial of the engine, and no killed process. Without a name on the embedded broker and on those that CI
    /// tests.
    #[arg(long, conflicts_with_all = ["orders", "workflows", "release", "calm"])]
    all: bool,
    /// The number of orders that the example takes while its processes and its broker are killed.
    #[arg(long)]
    orders: Option<usize>,
    /// The number of workflows that a cluster of three processes runs while its processes, the broker and Postgres are
    /// killed.
    #[arg(long)]
    workflows: Option<usize>,
    /// Builds everything in release mode, to measure the speed.
    #[arg(long)]
    release: bool,
    /// Only the run without faults, with tasks of 45 s: about five minutes for each broker.
    #[arg(long)]
    calm: bool,
    /// One line of JSON on stdout for each broker: the calls and the tasks of the run without faults. With `--all` one
    /// for each trial on each broker, and one about all of them. All other output goes to stderr.
    #[arg(long)]
    json: bool,
}

/// The duration of tasks in the long run without faults, in seconds.
const LONG_TASK: &str = "45";
/// The suffix of the name of the run without faults.
const CALM: &str = "tasks_are_called_once_while_workers_join_and_leave";

/// Runs the engine's tests on the standing servers, then the example on private ones. Both start the servers that they
/// need.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    if arguments.all {
        return trials::run(&arguments.names, arguments.json);
    }
    if !arguments.json {
        return test(arguments, None);
    }
    let report = std::env::temp_dir().join(format!("partitura-scenarios-{}.jsonl", std::process::id()));
    let tested = test(arguments, Some(&report));
    let figures = std::fs::read_to_string(&report).unwrap_or_default();
    print!("{figures}");
    // The run may have ended before it wrote a line.
    let _ = std::fs::remove_file(&report);
    tested
}

/// Adds figures to `report`, if there is one; then stdout is for them alone.
fn test(arguments: &Arguments, report: Option<&Path>) -> Result<(), Failure> {
    let names = brokers(&arguments.names);
    let servers = names.iter().map(|name| unversioned(name)).collect::<Vec<_>>();
    install_build_tools(servers.iter().copied())?;
    let selection = format!("--package=partitura --features={}", features(&servers));
    let mut command = cargo();
    command
        .args(["test", "--locked", "--no-fail-fast", "--test=scenarios"])
        .args(if arguments.calm { &[][..] } else { &["--test=on_every_broker", "--package=partitura-opentelemetry"] })
        .args(selection.split_whitespace())
        .args(arguments.release.then_some("--release"))
        .env("PARTITURA_SCENARIO_BUILD", &selection)
        .env("PARTITURA_BROKERS", servers.join(" "))
        .env("PARTITURA_SCENARIO_BROKERS", servers.join(" "));
    if servers != names {
        command.env(VERSIONS, names.join(" "));
    }
    if let Some(orders) = arguments.orders {
        command.env("PARTITURA_SCENARIO_ORDERS", orders.to_string());
    }
    if let Some(workflows) = arguments.workflows {
        command.env("PARTITURA_SCENARIO_WORKFLOWS", workflows.to_string());
    }
    if let Some(report) = report {
        command.env("PARTITURA_SCENARIO_REPORT", report).stdout(std::io::stderr());
    }
    if arguments.calm {
        command.env("PARTITURA_SCENARIO_TASK", LONG_TASK).args(["--", CALM]);
    }
    let status = command.status().map_err(|error| format!("cannot start cargo: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("a scenario failed on {}: {status}", names.join(", ")).into()) }
}

fn brokers(names: &[String]) -> Vec<String> {
    if names.is_empty() { BROKERS.map(str::to_owned).to_vec() } else { names.to_vec() }
}

fn known(name: &str) -> Result<String, String> {
    let is_known = BROKERS.contains(&unversioned(name)) && (!name.contains('@') || name.parse::<Release>().is_ok());
    is_known.then(|| name.to_owned()).ok_or_else(|| format!("there are {}, or kafka@3.7.2", BROKERS.join(", ")))
}

/// Returns the features for the facade. The state is in Postgres if the broker cannot keep it.
fn features(servers: &[&str]) -> String {
    servers.iter().map(|server| adapter(server)).chain(["postgres"]).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_name_every_broker_is_tried() {
        assert_eq!(brokers(&[]), BROKERS);
        assert_eq!(brokers(&["nats".to_owned()]), ["nats"]);
    }

    #[test]
    fn a_broker_with_a_server_may_have_a_version() {
        assert_eq!(known("kafka@3.7.2").as_deref(), Ok("kafka@3.7.2"));
        for stranger in ["rabbit", "embedded@1", "kafka@new"] {
            assert!(known(stranger).is_err(), "{stranger}");
        }
    }

    #[test]
    fn only_the_chosen_adapters_are_built() {
        assert_eq!(features(&["nats", "kafka"]), "nats,kafka,postgres");
        assert_eq!(features(&["artemis"]), "amqp,postgres");
    }
}

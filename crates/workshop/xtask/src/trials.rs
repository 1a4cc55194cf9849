//! `cargo xtask scenarios --all`: each trial of the engine on each broker, and a table at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use partitura_servers::VERSIONS;
use serde_json::{Value, json};

use crate::brokers::install_build_tools;
use crate::cargo::cargo;
use crate::conformance::unversioned;
use crate::failure::Failure;
use crate::steps::{BROKERS, WORKSPACE};

/// The broker without a server.
const EMBEDDED: &str = "embedded";

/// How many trials run at a time. They wait most of the time.
const AT_ONCE: &str = "--test-threads=8";

/// Runs all trials on the brokers of these names, or on the embedded one and all that CI tests. With `is_json` stdout
/// has a line of JSON for each trial on each broker, and one about all; all else goes to stderr.
pub(crate) fn run(names: &[String], is_json: bool) -> Result<(), Failure> {
    let all = || [EMBEDDED].into_iter().chain(BROKERS.split(' ')).map(str::to_owned).collect();
    let brokers: Vec<String> = if names.is_empty() { all() } else { names.to_vec() };
    let servers: Vec<_> = brokers.iter().map(|name| unversioned(name).to_owned()).collect();
    install_build_tools(servers.iter().map(String::as_str))?;
    let report = std::env::temp_dir().join(format!("partitura-trials-{}.jsonl", std::process::id()));
    let mut command = cargo();
    command.arg("test").args(WORKSPACE).args(["--test", "on_every_broker", "--", AT_ONCE]);
    command.env("PARTITURA_BROKERS", servers.join(" ")).env("PARTITURA_TRIALS_REPORT", &report);
    if servers != brokers {
        command.env(VERSIONS, brokers.join(" "));
    }
    // Trials panic on purpose, and a trace takes seconds in a debug build.
    command.env("RUST_BACKTRACE", "0");
    if is_json {
        command.stdout(std::io::stderr());
    }
    let ended = command.status().map_err(|error| format!("cannot start cargo: {error}"));
    let table = Table::read(&report, &servers);
    // The run may have ended before it wrote a line.
    let _ = std::fs::remove_file(&report);
    let (ended, table) = (ended?, table?);
    if is_json {
        table.lines.iter().for_each(|line| println!("{line}"));
        println!("{}", table.summary());
        eprintln!("{table}");
    } else {
        println!("{table}");
    }
    match table.failed() {
        0 if ended.success() => Ok(()),
        0 => Err(format!("the trials ended with {ended}").into()),
        failed => Err(format!("{failed} trials failed, or did not come to their end").into()),
    }
}

/// The outcomes of all trials.
#[derive(Debug, Default)]
struct Table {
    /// As they were written, each with `name`, `broker`, `outcome` and `seconds`.
    lines: Vec<Value>,
    scenarios: usize,
    rows: BTreeMap<String, Row>,
}

/// The outcomes on one broker.
#[derive(Debug, Default)]
struct Row {
    passed: usize,
    seconds: f64,
}

impl Table {
    fn read(report: &Path, brokers: &[String]) -> Result<Self, Failure> {
        let lines = std::fs::read_to_string(report).unwrap_or_default();
        Ok(Self::new(lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?, brokers))
    }

    fn new(lines: Vec<Value>, brokers: &[String]) -> Self {
        let mut rows: BTreeMap<_, _> = brokers.iter().map(|broker| (broker.clone(), Row::default())).collect();
        for line in &lines {
            let row: &mut Row = rows.entry(line["broker"].as_str().unwrap_or_default().to_owned()).or_default();
            row.passed += usize::from(line["outcome"] == "ok");
            row.seconds += line["seconds"].as_f64().unwrap_or_default();
        }
        let scenarios = lines.iter().filter_map(|line| line["name"].as_str()).collect::<BTreeSet<_>>().len();
        Self { lines, scenarios, rows }
    }

    /// Also those that ended without a line, with their process.
    fn failed(&self) -> usize {
        self.rows.values().map(|row| self.scenarios - row.passed).sum()
    }

    fn summary(&self) -> Value {
        json!({ "scenarios": self.scenarios, "brokers": self.rows.len(), "failed": self.failed() })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{:<12} {:>9} {:>7} {:>9}", "broker", "scenarios", "failed", "seconds")?;
        for (broker, Row { passed, seconds }) in &self.rows {
            let failed = self.scenarios - passed;
            writeln!(f, "{broker:<12} {:>9} {failed:>7} {seconds:>9.1}", self.scenarios)?;
        }
        let failed = self.lines.iter().filter(|line| line["outcome"] != "ok");
        for line in failed {
            writeln!(f, "FAILED {}::{}", line["broker"].as_str().unwrap_or_default(), line["name"])?;
        }
        write!(f, "scenarios: {}, brokers: {}, failed: {}", self.scenarios, self.rows.len(), self.failed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(broker: &str, name: &str, outcome: &str) -> Value {
        json!({ "name": name, "broker": broker, "outcome": outcome, "seconds": 0.5 })
    }

    #[test]
    fn a_trial_that_failed_or_never_ended_counts_as_failed() {
        let brokers = ["embedded", "nats"].map(str::to_owned);
        let lines =
            vec![line("embedded", "a::b", "ok"), line("embedded", "a::c", "ok"), line("nats", "a::b", "failed")];
        let table = Table::new(lines, &brokers);
        assert_eq!(table.summary(), json!({ "scenarios": 2, "brokers": 2, "failed": 2 }));
        let shown = table.to_string();
        assert!(shown.contains("FAILED nats::") && shown.ends_with("scenarios: 2, brokers: 2, failed: 2"), "{shown}");
    }

    #[test]
    fn a_broker_without_any_line_fails_with_all_trials() {
        let table = Table::new(vec![line("embedded", "a::b", "ok")], &["embedded", "nats"].map(str::to_owned));
        assert_eq!(table.failed(), 1);
    }
}

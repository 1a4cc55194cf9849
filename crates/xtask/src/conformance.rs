//! `cargo xtask conformance`: the suite on each broker, its closing line as JSON, its reports.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Failure;

/// Runs an adapter's `tests/conformance.rs`, and passes on what it reported.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Brokers to try (all of them without a name), and cases or areas to choose, as in `embedded order.key_basic delay`.
    names: Vec<String>,
    /// How much to ask for: 1 no faults, 2 a client dies, 3 the broker fails, 4 load.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=4))]
    tier: u8,
    /// Keeps everything but the closing lines off the standard output.
    #[arg(long)]
    json: bool,
    /// Where reports go: JSON, JUnit, and one HTML page about all brokers.
    #[arg(long, value_name = "DIR", default_value = "target/conformance")]
    report: PathBuf,
}

/// The last line of each broker is its summary. Fails when a case failed, a mutant got away, or nothing ran.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let known = brokers(Path::new("adapters"))?;
    let (chosen, only) = choose(&known, &arguments.names);
    fs::create_dir_all(&arguments.report)?;
    let report = fs::canonicalize(&arguments.report)?;
    let mut failed = Vec::new();
    for broker in chosen {
        let summary = report.join(format!("{broker}.summary.json"));
        // What is there afterwards is of this run.
        if summary.exists() {
            fs::remove_file(&summary)?;
        }
        let mut command = Command::new(env!("CARGO"));
        command
            .args(["test", "--locked", "--package", &format!("partitura-{broker}"), "--test", "conformance"])
            .env("PARTITURA_CONFORMANCE_TIER", arguments.tier.to_string())
            .env("PARTITURA_CONFORMANCE_ONLY", only.join(" "))
            .env("PARTITURA_CONFORMANCE_REPORT", &report);
        if arguments.json {
            command.stdout(Stdio::from(std::io::stderr()));
        }
        let status = command.status().map_err(|error| format!("cannot start cargo: {error}"))?;
        match fs::read_to_string(&summary) {
            Ok(line) => println!("{}", line.trim_end()),
            Err(_) => eprintln!("{broker} gave no summary"),
        }
        if !status.success() {
            failed.push(broker);
        }
    }
    eprintln!("reports: {}", arguments.report.join("index.html").display());
    if failed.is_empty() { Ok(()) } else { Err(format!("not conformant: {}", failed.join(", ")).into()) }
}

/// The adapters that have the suite among their tests.
fn brokers(adapters: &Path) -> Result<Vec<String>, Failure> {
    let entries = fs::read_dir(adapters)
        .map_err(|error| format!("cannot read {}; run this in the repository's root: {error}", adapters.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.join("tests/conformance.rs").exists() {
            names.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Names of brokers, and what is left: names of cases, which the suite itself knows best.
fn choose(known: &[String], names: &[String]) -> (Vec<String>, Vec<String>) {
    let (brokers, only): (Vec<_>, Vec<_>) = names.iter().cloned().partition(|name| known.contains(name));
    if brokers.is_empty() { (known.to_vec(), only) } else { (brokers, only) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_and_cases_are_told_apart_and_no_broker_means_all() {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let known = names(&["embedded", "other"]);
        assert_eq!(choose(&known, &names(&["embedded", "delay"])), (names(&["embedded"]), names(&["delay"])));
        assert_eq!(choose(&known, &names(&["delay"])), (known.clone(), names(&["delay"])));
    }
}

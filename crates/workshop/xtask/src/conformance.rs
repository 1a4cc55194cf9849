//! `cargo xtask conformance`: the suite on each broker, its last line as JSON, its reports, the matrix in the docs.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use partitura_servers::{Release, Server, VERSIONS};

use crate::cargo::{ADAPTERS, adapter, build, directory, server_of};
use crate::failure::Failure;

/// The page that shows the matrix, between the markers.
const PAGE: &str = "docs/conformance.md";
const BEGIN: &str = "<!-- matrix: written by cargo xtask conformance --all -->\n";
const END: &str = "<!-- end of matrix -->\n";

/// Runs an adapter's `tests/conformance.rs`, and passes its report on. Starts the servers that it needs.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Brokers to test (without a name, all), and cases or areas to choose, as in `embedded order.key_basic delay`. A
    /// broker with a server may have a version: `kafka@3.7.2`.
    names: Vec<String>,
    /// Runs all cases on every broker, and writes the matrix of docs/conformance.md if every broker has a summary.
    #[arg(long, conflicts_with = "names")]
    all: bool,
    /// The highest tier to run: 1 no faults, 2 a client dies, 3 the broker or the network fails, 4 load.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=4))]
    tier: u8,
    /// The number of runs of each case, each with another seed. Its name has the seed, by which
    /// `PARTITURA_CONFORMANCE_SEED` repeats a run.
    #[arg(long, default_value_t = 1, value_name = "N")]
    repeat: u64,
    /// Writes only the last lines to the standard output.
    #[arg(long)]
    json: bool,
    /// The directory for reports: JSON, JUnit, and one HTML page about all brokers.
    #[arg(long, value_name = "DIR", default_value = "target/conformance")]
    report: PathBuf,
}

/// The last line of each broker is its summary. Fails if a case failed, a mutant was not found, or nothing ran.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let known = brokers(Path::new(ADAPTERS))?;
    let (chosen, only) = choose(&known, &arguments.names);
    fs::create_dir_all(&arguments.report)?;
    let report = fs::canonicalize(&arguments.report)?;
    if arguments.all {
        // Removes the reports of earlier runs.
        for entry in fs::read_dir(&report)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                fs::remove_file(path)?;
            }
        }
    }
    let suites = build(
        chosen.iter().map(|broker| adapter(unversioned(broker))).collect::<BTreeSet<_>>(),
        &["test", "--no-run", "--test=conformance"].map(str::to_owned),
    )?;
    let (mut failed, mut untold) = (Vec::new(), Vec::new());
    for broker in chosen {
        match try_on(&broker, &suites, &only, arguments, &report) {
            Ok(true) => {}
            Ok(false) => failed.push(broker),
            Err(error) => {
                eprintln!("{broker}: {error}");
                untold.push(broker);
            }
        }
    }
    eprintln!("reports: {}", arguments.report.join("index.html").display());
    if arguments.all && untold.is_empty() {
        let page = fs::read_to_string(PAGE)?;
        fs::write(PAGE, with_matrix(&page, &fs::read_to_string(report.join("matrix.md"))?)?)?;
        eprintln!("the matrix: {PAGE}");
    } else if arguments.all {
        eprintln!("the matrix of {PAGE} is left as it is: no summary of {}", untold.join(", "));
    }
    failed.extend(untold);
    if failed.is_empty() { Ok(()) } else { Err(format!("not conformant: {}", failed.join(", ")).into()) }
}

/// Runs one adapter's suite, and prints its last line. `false`: a case failed, or a mutant was not found. An error: the
/// suite ended without a summary.
fn try_on(
    broker: &str,
    suites: &HashMap<String, PathBuf>,
    only: &[String],
    arguments: &Arguments,
    report: &Path,
) -> Result<bool, Failure> {
    let adapter = adapter(unversioned(broker));
    let mut name = broker.to_owned();
    let mut command = Command::new(suites.get(adapter).ok_or("cargo built no suite of its adapter")?);
    match broker.parse::<Release>() {
        Ok(release) => {
            let server = Server::new(release).with_report(|progress| eprintln!("{progress}"));
            server.up()?;
            // Keeps its reports apart from those of other versions.
            server.name().clone_into(&mut name);
            if broker != unversioned(broker) {
                command.env(VERSIONS, broker);
            }
        }
        Err(unknown) if broker != unversioned(broker) => return Err(unknown.into()),
        Err(_) => {}
    }
    let summary = report.join(format!("{name}.summary.json"));
    forget(&summary)?;
    command
        .current_dir(directory(adapter))
        .env("PARTITURA_CONFORMANCE_TIER", arguments.tier.to_string())
        .env("PARTITURA_CONFORMANCE_ONLY", only.join(" "))
        .env("PARTITURA_CONFORMANCE_REPEAT", arguments.repeat.to_string())
        .env("PARTITURA_CONFORMANCE_REPORT", report);
    if arguments.json {
        command.stdout(Stdio::from(std::io::stderr()));
    }
    let status = command.status().map_err(|error| format!("cannot start the suite: {error}"))?;
    let line = fs::read_to_string(&summary).map_err(|_| format!("gave no summary, and ended with {status}"))?;
    println!("{}", line.trim_end());
    Ok(status.success())
}

fn forget(file: &Path) -> Result<(), Failure> {
    if file.exists() {
        fs::remove_file(file)?;
    }
    Ok(())
}

/// Returns the page with another matrix between its markers.
fn with_matrix(page: &str, matrix: &str) -> Result<String, Failure> {
    let parts = page.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = parts.ok_or_else(|| format!("{PAGE} lacks the lines {BEGIN}{END}"))?;
    Ok(format!("{before}{BEGIN}\n{}\n\n{END}{after}", matrix.trim()))
}

/// Returns the brokers on which the adapters are tried whose tests include the suite.
fn brokers(adapters: &Path) -> Result<Vec<String>, Failure> {
    let entries = fs::read_dir(adapters)
        .map_err(|error| format!("cannot read {}; run this in the repository's root: {error}", adapters.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.join("tests/conformance.rs").exists() {
            names.extend(path.file_name().map(|name| server_of(&name.to_string_lossy()).to_owned()));
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The name without the version.
pub(crate) fn unversioned(broker: &str) -> &str {
    broker.split_once('@').map_or(broker, |(name, _)| name)
}

/// Splits names of brokers from the rest: names of cases, which the suite checks.
fn choose(known: &[String], names: &[String]) -> (Vec<String>, Vec<String>) {
    let is_broker = |name: &String| known.iter().any(|known| known == unversioned(name));
    let (brokers, only): (Vec<_>, Vec<_>) = names.iter().cloned().partition(is_broker);
    if brokers.is_empty() { (known.to_vec(), only) } else { (brokers, only) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_matrix_takes_the_place_of_the_one_before() {
        let page = format!("a\n{BEGIN}old\n{END}b\n");
        let expected = format!("a\n{BEGIN}\nnew\n\n{END}b\n");
        assert_eq!(with_matrix(&page, "new\n").expect("the markers are there"), expected);
        assert!(with_matrix("a\n", "new").is_err());
    }

    #[test]
    fn brokers_and_cases_are_told_apart_and_no_broker_means_all() {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let known = names(&["embedded", "other"]);
        assert_eq!(choose(&known, &names(&["embedded", "delay"])), (names(&["embedded"]), names(&["delay"])));
        assert_eq!(choose(&known, &names(&["other@1.2"])), (names(&["other@1.2"]), names(&[])));
        assert_eq!(choose(&known, &names(&["delay"])), (known.clone(), names(&["delay"])));
        assert_eq!((unversioned("artemis@2.54.0"), unversioned("other")), ("artemis", "other"));
    }
}

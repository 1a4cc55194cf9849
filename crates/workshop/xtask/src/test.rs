//! `cargo xtask test`: runs the steps, each with a heading and its time, and prints a summary.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use partitura_servers::Kind;

use crate::cargo::cargo;
use crate::failure::Failure;
use crate::jobs::Job;
use crate::steps::{Action, BROKERS, STEPS, Step, WORKSPACE};
use crate::{brokers, jobs, package, tidy};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Steps to run, by name; without a name, all.
    steps: Vec<String>,
    /// Stops at the first step that fails; without it the others still run.
    #[arg(long)]
    fail_fast: bool,
}

/// Runs the chosen steps in their order. Fails if one of them failed.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let chosen = choose(&arguments.steps)?;
    let idle = brokers::idle();
    let results = run_all(&chosen, arguments.fail_fast, |number, step| {
        heading(&format!("{}/{} {}: {}", number + 1, chosen.len(), step.name, step.about));
        perform(&step.action)
    });
    if chosen.iter().any(|step| matches!(step.action, Action::Brokers)) {
        brokers::stop(&idle);
    }
    heading("summary");
    for result in &results {
        println!("{result}");
    }
    let failed: Vec<_> = results.iter().filter(|result| result.is_failure()).map(|result| result.name).collect();
    if failed.is_empty() {
        return Ok(());
    }
    Err(format!("failed: {0}; to run only this again: cargo xtask test {0}", failed.join(" ")).into())
}

fn choose(names: &[String]) -> Result<Vec<&'static Step>, Failure> {
    let known = || STEPS.iter().map(|step| step.name).collect::<Vec<_>>().join(", ");
    if let Some(stranger) = names.iter().find(|name| STEPS.iter().all(|step| step.name != **name)) {
        return Err(format!("no step is called {stranger}; choose from {}", known()).into());
    }
    Ok(STEPS.iter().filter(|step| names.is_empty() || names.iter().any(|name| name == step.name)).collect())
}

/// The result of one step.
struct StepResult {
    name: &'static str,
    took: Duration,
    outcome: Outcome,
}

enum Outcome {
    Passed,
    Failed(String),
    Skipped,
}

impl StepResult {
    fn is_failure(&self) -> bool {
        matches!(self.outcome, Outcome::Failed(_))
    }
}

impl fmt::Display for StepResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, seconds) = (self.name, self.took.as_secs_f64());
        match &self.outcome {
            Outcome::Passed => write!(f, "  ok       {name:<12} {seconds:>7.1} s"),
            Outcome::Failed(reason) => write!(f, "  FAILED   {name:<12} {seconds:>7.1} s  {reason}"),
            Outcome::Skipped => write!(f, "  skipped  {name:<12}"),
        }
    }
}

fn run_all(
    steps: &[&'static Step],
    fail_fast: bool,
    mut perform: impl FnMut(usize, &Step) -> Result<(), Failure>,
) -> Vec<StepResult> {
    let mut results: Vec<StepResult> = Vec::with_capacity(steps.len());
    for (number, step) in steps.iter().enumerate() {
        let begun = Instant::now();
        let outcome = if fail_fast && results.iter().any(StepResult::is_failure) {
            Outcome::Skipped
        } else {
            perform(number, step).map_or_else(|failure| Outcome::Failed(failure.to_string()), |()| Outcome::Passed)
        };
        results.push(StepResult { name: step.name, took: begun.elapsed(), outcome });
    }
    results
}

/// The output of the tools is passed on unchanged: readers look for their last lines (`test result: …`).
fn perform(action: &Action) -> Result<(), Failure> {
    let (arguments, environment) = match action {
        Action::Tidy => return tidy::run(),
        Action::Deny => return deny(),
        Action::Package => return package::run(),
        Action::BuildTools => return brokers::install_build_tools(Kind::all().map(Kind::name)),
        Action::Brokers => return brokers::up_named(BROKERS.split(' ').chain(["postgres"])),
        Action::Tests => return tests(),
        Action::EngineTests => return engine_tests(),
        Action::Cargo { arguments, environment } => (*arguments, *environment),
    };
    println!("$ cargo {}", arguments.join(" "));
    let status = cargo()
        .args(arguments)
        .envs(environment.iter().copied())
        .status()
        .map_err(|error| format!("cannot start cargo: {error}"))?;
    if status.success() {
        return Ok(());
    }
    Err(format!("cargo {} ended with {status}", arguments.join(" ")).into())
}

/// Needs the list of known faults from the network, so that a machine without it is no failure.
fn deny() -> Result<(), Failure> {
    let is_there = cargo().args(["deny", "--version"]).output().is_ok_and(|output| output.status.success());
    if !is_there {
        println!("cargo-deny is not installed: nothing is checked. Get it with `cargo install --locked cargo-deny`");
        return Ok(());
    }
    println!("$ cargo deny check");
    let status = cargo().args(["deny", "check"]).status().map_err(|error| format!("cannot start cargo: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("cargo deny check ended with {status}").into()) }
}

fn tests() -> Result<(), Failure> {
    let mut jobs: Vec<_> = jobs::build(WORKSPACE)?.iter().filter_map(Job::program).collect();
    jobs.sort_by_key(|job| !job.is_suite());
    // Suites wait most of the time, and this needs the processor.
    jobs.insert(jobs.len().min(2), Job::documentation(WORKSPACE)?);
    jobs::run(jobs, Path::new(jobs::OUTPUT))
}

fn engine_tests() -> Result<(), Failure> {
    let programs = jobs::build(&[WORKSPACE, &["--test", "on_every_broker"]].concat())?;
    let on = |broker| programs.iter().filter_map(Job::program).map(move |job| job.on("PARTITURA_BROKERS", broker));
    jobs::run(BROKERS.split(' ').flat_map(on).collect(), Path::new(jobs::OUTPUT))
}

fn heading(text: &str) {
    println!("\n══ {text} {}", "═".repeat(90_usize.saturating_sub(text.chars().count())));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing_on(name: &'static str) -> impl FnMut(usize, &Step) -> Result<(), Failure> {
        move |_, step| if step.name == name { Err("broken".into()) } else { Ok(()) }
    }

    fn all() -> Vec<&'static Step> {
        STEPS.iter().collect()
    }

    #[test]
    fn a_failed_step_does_not_keep_the_others_from_running() {
        let results = run_all(&all(), false, failing_on("tidy"));
        assert_eq!(results.iter().filter(|result| result.is_failure()).count(), 1);
        assert!(results.iter().all(|result| !matches!(result.outcome, Outcome::Skipped)));
    }

    #[test]
    fn fail_fast_skips_what_follows_a_failure() {
        let results = run_all(&all(), true, failing_on("tidy"));
        let after = results.iter().skip_while(|result| !result.is_failure()).skip(1);
        assert!(after.clone().count() > 0);
        assert!(after.into_iter().all(|result| matches!(result.outcome, Outcome::Skipped)));
    }

    #[test]
    fn the_summary_names_the_step_and_the_reason() {
        let results = run_all(&all(), false, failing_on("doc"));
        let lines: Vec<_> = results.iter().map(ToString::to_string).collect();
        assert!(lines.iter().any(|line| line.contains("FAILED   doc") && line.ends_with("broken")), "{lines:?}");
        assert!(lines.iter().any(|line| line.contains("ok       fmt")), "{lines:?}");
    }

    #[test]
    fn steps_are_chosen_by_name_and_a_stranger_is_refused() {
        let chosen = choose(&["tidy".to_owned(), "fmt".to_owned()]).expect("both exist");
        assert_eq!(chosen.iter().map(|step| step.name).collect::<Vec<_>>(), ["fmt", "tidy"]);
        let refusal = choose(&["clipy".to_owned()]).err().expect("no such step").to_string();
        assert!(refusal.contains("clipy") && refusal.contains("clippy"), "{refusal}");
    }

    #[test]
    fn no_two_steps_share_a_name() {
        let mut names: Vec<_> = STEPS.iter().map(|step| step.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), STEPS.len());
    }
}

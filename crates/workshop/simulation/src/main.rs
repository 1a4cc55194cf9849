//! `cargo xtask simulate`: runs worlds, and shows the first failures.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use clap::Parser;
use partitura_simulation::{Mutant, Options, Report, simulate};

/// Partitura's engine and lanes in seeded worlds.
#[derive(Parser)]
struct Arguments {
    /// The number of worlds to run.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The seed of the first; the others count on from there.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// One line of JSON on stdout, at the end.
    #[arg(long)]
    json: bool,
    /// Shows the whole trace of a seed that fails; without it, the last 60 lines.
    #[arg(long)]
    trace: bool,
    /// Builds in a bug: the exit code tells whether none was found, as always.
    #[arg(long)]
    mutant: Option<Mutant>,
    /// Stops after this many failing seeds.
    #[arg(long, default_value_t = 10)]
    failures: usize,
    /// The number of threads; that of the processors unless set.
    #[arg(long)]
    jobs: Option<usize>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let start = Instant::now();
    let mut failed = run(&arguments);
    failed.sort_by_key(|report| report.seed.wrapping_sub(arguments.from));
    let seconds = start.elapsed().as_secs_f64();
    for report in &failed {
        eprintln!("{}", told(report, &arguments));
    }
    let rate = arguments.seeds as f64 / seconds.max(0.001);
    eprintln!(
        "{} seeds from {} in {seconds:.1} s ({rate:.0}/s), {} failed",
        arguments.seeds,
        arguments.from,
        failed.len()
    );
    if arguments.json {
        let seeds: Vec<u64> = failed.iter().map(|report| report.seed).collect();
        let line = serde_json::json!({
            "seeds": arguments.seeds, "from": arguments.from, "failed": seeds.len(), "failing_seeds": seeds,
            "seconds": (seconds * 10.0).round() / 10.0,
        });
        println!("{line}");
    }
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs every world, on all processors, and returns those that failed; stops when there are enough of them.
fn run(arguments: &Arguments) -> Vec<Report> {
    let (next, enough) = (AtomicU64::new(0), AtomicBool::new(false));
    let failed = Mutex::new(Vec::new());
    let processors = thread::available_parallelism().map_or(1, |count| count.get());
    thread::scope(|scope| {
        for _ in 0..arguments.jobs.unwrap_or(processors) {
            scope.spawn(|| {
                while !enough.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= arguments.seeds {
                        break;
                    }
                    let report = simulate(arguments.from.wrapping_add(number), options(arguments));
                    if report.violation.is_some() {
                        let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                        failed.push(report);
                        enough.store(failed.len() >= arguments.failures, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn options(arguments: &Arguments) -> Options {
    arguments.mutant.map_or_else(Options::default, |mutant| Options::default().mutant(mutant))
}

/// Runs a failing seed once more, with its trace.
fn told(report: &Report, arguments: &Arguments) -> String {
    let again = simulate(report.seed, options(arguments).trace());
    let shown = if arguments.trace { again.trace.len() } else { 60 };
    let lines = again.trace[again.trace.len().saturating_sub(shown)..].join("\n");
    let violation = report.violation.as_ref().map(ToString::to_string).unwrap_or_default();
    let same = if again.hash == report.hash { "" } else { "\nNOT REPRODUCED: something does not depend on the seed" };
    format!("{lines}\n\nseed {} violates {violation}{same}\n", report.seed)
}

//! The entry point: a test binary with a name for each case, and reports at the end.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::mutants::{self, Mutant, Tried};
use crate::report::{CaseReport, MutantReport, Report};
use crate::role::Role;
use crate::runner::{Bench, Verdict};
use crate::settings::Settings;
use crate::subject::Subject;
use crate::{Case, Harness, cases};

/// Makes the `main` of a test with `harness = false`: every case on every harness given.
///
/// The harnesses are ways to run one broker. Filters, `--list`, `--exact` and so on are those of `cargo test`;
/// `PARTITURA_CONFORMANCE_TIER` (3 where it is not set), `…_ONLY` (ids of cases), `…_SEED` (of the random choices,
/// another one in each run where it is not set), `…_REPEAT` (runs of each case, each with the next seed) and
/// `…_REPORT` (a directory) set the rest.
#[macro_export]
macro_rules! main {
    ($($harness:expr),+ $(,)?) => {
        fn main() -> ::std::process::ExitCode {
            $crate::run(vec![$(::std::sync::Arc::new($harness)),+])
        }
    };
}

/// Runs the suite, for [`main!`](crate::main).
pub fn run(harnesses: Vec<Arc<dyn Harness>>) -> ExitCode {
    match Role::of_this_process(&harnesses) {
        Some(role) => play(role),
        None => conduct(harnesses),
    }
}

fn play(role: Result<Role, String>) -> ExitCode {
    match role.and_then(|role| role.play().map_err(|stop| stop.to_string())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn conduct(harnesses: Vec<Arc<dyn Harness>>) -> ExitCode {
    let settings = match Settings::from_environment() {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut arguments = Arguments::from_args();
    let threads = harnesses.iter().map(|harness| harness.parallelism().max(1)).min();
    arguments.test_threads = arguments.test_threads.or(threads);
    let first = settings.seeds.first().copied().unwrap_or_default();
    let benches: Vec<Bench> = harnesses.into_iter().map(|harness| Bench::new(harness, first)).collect();
    let broker = benches.first().map_or("", |bench| bench.harness.broker());
    let report = Arc::new(Mutex::new(Report::new(broker, settings.tier)));
    let conclusion = libtest_mimic::run(&arguments, trials(&benches, &settings, &report));
    if arguments.list {
        return ExitCode::SUCCESS;
    }
    if conclusion.num_passed + conclusion.num_failed == 0 {
        eprintln!("error: nothing was verified: no case ran; see the names with --list");
        return ExitCode::FAILURE;
    }
    let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
    benches.iter().for_each(|bench| report.describe(bench));
    if let Some(directory) = &settings.report {
        match report.write(directory) {
            Ok(page) => eprintln!("report: {}", page.display()),
            Err(error) => {
                eprintln!("error: cannot write the report to {}: {error}", directory.display());
                return ExitCode::FAILURE;
            }
        }
    }
    conclusion.exit_code()
}

fn trials(benches: &[Bench], settings: &Settings, report: &Arc<Mutex<Report>>) -> Vec<Trial> {
    // Cases that cannot run side by side come first, when no other case has to end before.
    let (mut first, mut others) = (Vec::new(), Vec::new());
    for (run, seed) in settings.seeds.iter().enumerate() {
        for bench in benches {
            // Mutants are compared with the first run.
            let bench = if run == 0 { bench.clone() } else { bench.with_seed(*seed) };
            for case in cases::all().filter(|case| settings.wants(case.id, case.tier)) {
                let trials = if bench.takes_turns(case) { &mut first } else { &mut others };
                trials.push(case_trial(bench.clone(), case, settings.seeds.len() > 1, report.clone()));
            }
        }
    }
    for mutant in mutants::all().filter(|mutant| settings.wants_mutant(mutant)) {
        let case = cases::all().find(|case| case.id == mutant.breaks);
        let can_try = |bench: &&Bench| case.is_some_and(|case| bench.can_try_mutants_of(case));
        let tried: Vec<Bench> = benches.iter().filter(can_try).cloned().collect();
        if tried.is_empty() {
            continue;
        }
        let turns = case.is_some_and(|case| tried.iter().any(|bench| bench.takes_turns(case)));
        let trials = if turns { &mut first } else { &mut others };
        trials.push(mutant_trial(tried.clone(), mutant, report.clone()));
    }
    first.extend(others);
    first
}

fn case_trial(bench: Bench, case: &'static Case, is_repeated: bool, report: Arc<Mutex<Report>>) -> Trial {
    let variant = bench.harness.variant().to_owned();
    let seed = if is_repeated { format!("seed-{}", bench.seed()) } else { String::new() };
    // The name has the broker, since the suites of several brokers write to one log.
    let parts = [bench.harness.broker(), &variant, case.id, &seed];
    let name = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("::");
    Trial::ignorable_test(name, move || {
        let outcome = bench.sound(case, Subject::BROKER);
        report.lock().unwrap_or_else(PoisonError::into_inner).add_case(CaseReport::new(
            case,
            &variant,
            bench.seed(),
            &outcome,
        ));
        let history = outcome.around();
        match outcome.verdict {
            Verdict::Passed => Ok(Completion::Completed),
            Verdict::Failed(why) => Err(Failed::from(format!("{}\n{why}\n\n{history}", case.property))),
            lack => Ok(Completion::ignored_with(lack.to_string())),
        }
    })
}

fn mutant_trial(benches: Vec<Bench>, mutant: &'static Mutant, report: Arc<Mutex<Report>>) -> Trial {
    Trial::ignorable_test(format!("mutant::{}", mutant.name), move || {
        let began = Instant::now();
        let tried = mutants::try_on(&benches, mutant);
        let caught = match tried {
            // The report counts only mutants that were tried.
            Ok(Tried::Nowhere(why)) => return Ok(Completion::ignored_with(why)),
            Ok(Tried::Caught(how)) => Ok(how),
            Err(why) => Err(why),
        };
        report.lock().unwrap_or_else(PoisonError::into_inner).add_mutant(MutantReport::new(
            mutant,
            &caught,
            began.elapsed(),
        ));
        caught.map(|_| Completion::Completed).map_err(Failed::from)
    })
}

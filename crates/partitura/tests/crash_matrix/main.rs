//! The engine on the embedded broker, crashed at every point of what it does.
//!
//! The broker under test is wrapped in one that counts effects and ends the process at the *n*-th: the production code
//! has no failpoints. A case is a process that crashes at its *n*-th point (or several, one after the other, on the
//! same files), then one that comes to the end, and then a look at everything that is stored.
//!
//! | environment | |
//! |---|---|
//! | `CRASH_MATRIX='two-steps saga 17 4'` | only this case: a crash at point 17, then at 4, of this number of the program (`all`: of the whole) |
//! | `CRASH_MATRIX=all` | every point of the whole program as well, which takes minutes |
//! | `CRASH_MATRIX_SEED=n` | the samples of that seed |

mod broker;
mod check;
mod diary;
mod flaw;
mod fuse;
mod matrix;
mod program;
mod stage;

use std::time::Instant;

use flaw::Flaw;
use matrix::{Case, Findings, all_of, at_every_point};
use stage::{Mode, PLAN, perform};

/// Starts another two instances of its own, and hears of the end of both.
const ONE: &str = "family";
/// How large the samples are.
const CRASHES: u32 = 40;
const DOUBLE_CRASHES: u32 = 20;

/// Takes the place of a program of its own; without a plan it does nothing.
#[test]
fn the_process_that_is_crashed() {
    if let Ok(plan) = std::env::var(PLAN) {
        perform(&serde_json::from_str(&plan).expect("a plan"));
    }
}

#[test]
fn a_crash_at_any_point_of_one_workflow_changes_nothing() {
    if given().is_none() {
        one(Mode::OneStep, &[("commit", &["before", "amid", "after"])]);
    }
}

#[test]
fn a_crash_at_any_point_of_one_workflow_changes_nothing_without_transactions() {
    if given().is_none() {
        let (settle, write) = (&["before", "after"][..], &["before", "amid", "after"][..]);
        let publish: &[&str] = &["before", "halfway through", "amid", "after"];
        one(Mode::TwoSteps, &[("write", write), ("publish", publish), ("settle", settle)]);
    }
}

#[test]
fn a_crash_amid_all_kinds_of_workflows_changes_nothing() {
    if given().is_none() {
        samples(Mode::OneStep);
    }
}

#[test]
fn a_crash_amid_all_kinds_of_workflows_changes_nothing_without_transactions() {
    if given().is_none() {
        samples(Mode::TwoSteps);
    }
}

#[test]
fn a_promise_that_is_broken_on_purpose_is_found() {
    if given().is_none() {
        for (mode, flaw) in [
            (Mode::OneStep, Flaw::SettlesFirst),
            (Mode::OneStep, Flaw::PublishesFirst),
            (Mode::TwoSteps, Flaw::ForgetsTheOutbox),
        ] {
            let began = Instant::now();
            let Findings { cases, problems, .. } = at_every_point(mode, Some("sequence"), Some(flaw));
            let problem = problems.first().unwrap_or_else(|| panic!("{flaw:?} was not found in {cases} cases"));
            println!("{flaw:?}, found in {cases} cases, {:.1} s: {problem}", began.elapsed().as_secs_f64());
        }
    }
}

#[test]
fn the_whole_matrix_when_asked_for() {
    if given().as_deref() == Some("all") {
        for mode in [Mode::OneStep, Mode::TwoSteps] {
            let began = Instant::now();
            report("every point", mode, began, &at_every_point(mode, None, None));
        }
    }
}

#[test]
fn a_case_that_failed_can_be_tried_again() {
    if let Some(case) = given().filter(|given| given != "all") {
        let outcome = case.parse::<Case>().expect("a case").run().unwrap_or_else(|problem| panic!("{problem}"));
        println!("{case}: {outcome:?}");
    }
    for text in ["one-step all", "two-steps saga 17 4"] {
        assert_eq!(text.parse::<Case>().expect("a case").to_string(), text);
    }
}

fn given() -> Option<String> {
    std::env::var("CRASH_MATRIX").ok()
}

/// Every point of one workflow. The points named must be among them.
fn one(mode: Mode, expected: &[(&str, &[&str])]) {
    let began = Instant::now();
    let findings = at_every_point(mode, Some(ONE), None);
    report(ONE, mode, began, &findings);
    for (effect, moments) in expected {
        for place in moments.iter().map(|moment| format!("{moment} {effect}")) {
            assert!(findings.crashes.contains_key(&place), "nothing crashed {place}: {:?}", findings.crashes);
        }
    }
    for place in
        ["amid declare", "before join", "after deliveries arrived", "after enter in the ledger", "before close"]
    {
        assert!(findings.crashes.contains_key(place), "nothing crashed {place}: {:?}", findings.crashes);
    }
}

/// Points of the whole program, chosen by chance; some twice in a row.
fn samples(mode: Mode) {
    let seed = std::env::var("CRASH_MATRIX_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(clock);
    println!("CRASH_MATRIX_SEED={seed}");
    let mut chance = Chance(seed);
    let whole = Case { mode, only: None, crashes: Vec::new(), flaw: None };
    let points = whole.run().unwrap_or_else(|problem| panic!("{problem}")).points;
    let case = |depth: u32| Case { crashes: (0..depth).map(|_| chance.up_to(points)).collect(), ..whole.clone() };
    let cases: Vec<Case> = (0..CRASHES).map(|_| 1).chain((0..DOUBLE_CRASHES).map(|_| 2)).map(case).collect();
    let began = Instant::now();
    report(&format!("{} of {points} points", cases.len()), mode, began, &all_of(&cases));
}

fn report(what: &str, mode: Mode, began: Instant, findings: &Findings) {
    let Findings { cases, crashes, .. } = findings;
    println!("{mode:?}, {what}: {cases} cases, {:.1} s", began.elapsed().as_secs_f64());
    for (place, count) in crashes {
        println!("  {count:4} × {place}");
    }
    findings.must_be_good();
}

/// Random numbers from a seed (SplitMix64: Steele, Lea, Flood 2014).
struct Chance(u64);

impl Chance {
    /// From 1.
    fn up_to(&mut self, most: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % u64::from(most)) as u32 + 1
    }
}

fn clock() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map(|now| now.as_nanos() as u64).unwrap_or_default()
}

//! The results of a run, as data.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use partitura_broker::Timestamp;
use serde::{Deserialize, Serialize};

use crate::mutants::Mutant;
use crate::runner::{Bench, Outcome, Verdict};
use crate::{Case, History, Tier};

/// The number of entries of a failure's history on the page.
const KEPT: usize = 400;
/// The number of entries on each side of the one that shows the failure.
pub(crate) const AROUND: usize = 20;

/// A run of the suite on one broker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Report {
    /// The suite's version.
    pub(crate) suite: String,
    pub(crate) broker: String,
    /// The description of each way to run it.
    pub(crate) servers: BTreeMap<String, String>,
    /// The declared lateness of delayed messages, for each way to run it, in milliseconds.
    #[serde(default)]
    pub(crate) declared_lateness: BTreeMap<String, u64>,
    /// The day of the run, as in 2026-11-23.
    #[serde(default)]
    pub(crate) date: String,
    pub(crate) tier: u8,
    pub(crate) cases: Vec<CaseReport>,
    pub(crate) mutants: Vec<MutantReport>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CaseReport {
    pub(crate) id: String,
    pub(crate) variant: String,
    pub(crate) tier: u8,
    pub(crate) property: String,
    pub(crate) verdict: Name,
    pub(crate) why: Option<String>,
    pub(crate) seconds: f64,
    /// The number of runs: each has a seed of its own.
    #[serde(default = "once")]
    pub(crate) runs: usize,
    /// The seeds of the runs that failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) failed_seeds: Vec<u64>,
    /// Sorted, in milliseconds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) lateness: Vec<u64>,
    /// The part of a failure's history around the entry that shows it, or else the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) around: Option<String>,
    /// The end of a failure's history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) history: Option<String>,
    /// All of it, which has a file of its own.
    #[serde(skip)]
    pub(crate) whole: Option<History>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct MutantReport {
    pub(crate) name: String,
    pub(crate) breaks: String,
    pub(crate) what: String,
    pub(crate) caught: bool,
    /// The case that found it, or the reason why none did.
    pub(crate) how: String,
    pub(crate) seconds: f64,
}

/// A verdict without its reason. If several ways to run a broker have one answer, it is the last of their verdicts in
/// this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Name {
    NotApplicable,
    Unsupported,
    NotVerified,
    Passed,
    Failed,
}

/// The summary in the last line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Summary {
    pub(crate) broker: String,
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) not_verified: usize,
    /// Capabilities that the broker declares not to have.
    pub(crate) unsupported: usize,
    /// Their names.
    pub(crate) lacks: Vec<String>,
    /// The number of cases that were not run for this reason.
    pub(crate) unsupported_cases: usize,
    pub(crate) mutants_caught: usize,
    pub(crate) mutants_total: usize,
    pub(crate) not_applicable: usize,
    /// The description of each way to run the broker, with its version.
    pub(crate) versions: Vec<String>,
}

impl Report {
    /// Makes the report of a new run.
    pub(crate) fn new(broker: &str, tier: Tier) -> Self {
        Self {
            suite: env!("CARGO_PKG_VERSION").into(),
            broker: broker.into(),
            servers: BTreeMap::new(),
            declared_lateness: BTreeMap::new(),
            date: date(crate::client::now().as_millis() / 86_400_000),
            tier: tier as u8,
            cases: Vec::new(),
            mutants: Vec::new(),
        }
    }

    /// Notes the description of a way to run the broker.
    pub(crate) fn describe(&mut self, bench: &Bench) {
        let variant = bench.harness.variant();
        let told = bench.capabilities().map(|capabilities| {
            let lateness = u64::try_from(capabilities.delay.lateness.as_millis()).unwrap_or(u64::MAX);
            self.declared_lateness.insert(variant.into(), lateness);
            capabilities.broker
        });
        self.servers.insert(variant.into(), told.unwrap_or_else(|error| error));
    }

    /// Adds a run of a case. Several runs of it in one way are one entry.
    pub(crate) fn add_case(&mut self, case: CaseReport) {
        let is_same = |known: &&mut CaseReport| known.id == case.id && known.variant == case.variant;
        match self.cases.iter_mut().find(is_same) {
            Some(known) => known.add_run(case),
            None => self.cases.push(case),
        }
    }

    pub(crate) fn add_mutant(&mut self, mutant: MutantReport) {
        self.mutants.push(mutant);
    }

    /// Each case counts once: it has passed if one way to run the broker passed it and none failed it.
    pub(crate) fn verdicts(&self) -> BTreeMap<&str, Name> {
        let mut verdicts: BTreeMap<&str, Name> = BTreeMap::new();
        for case in &self.cases {
            let verdict = verdicts.entry(&case.id).or_insert(case.verdict);
            *verdict = case.verdict.max(*verdict);
        }
        verdicts
    }

    /// The descriptions of the broker; one if all ways to run it have the same.
    pub(crate) fn versions(&self) -> Vec<String> {
        self.servers.values().cloned().collect::<BTreeSet<_>>().into_iter().collect()
    }

    pub(crate) fn summary(&self) -> Summary {
        let verdicts = self.verdicts();
        let count = |name| verdicts.values().filter(|verdict| **verdict == name).count();
        let lacks = self.lacks(&verdicts);
        Summary {
            broker: self.broker.clone(),
            passed: count(Name::Passed),
            failed: count(Name::Failed),
            not_verified: count(Name::NotVerified),
            unsupported: lacks.len(),
            lacks,
            unsupported_cases: count(Name::Unsupported),
            mutants_caught: self.mutants.iter().filter(|mutant| mutant.caught).count(),
            mutants_total: self.mutants.len(),
            not_applicable: count(Name::NotApplicable),
            versions: self.versions(),
        }
    }

    /// The reasons why cases are unsupported, each once: several cases may need one capability.
    fn lacks(&self, verdicts: &BTreeMap<&str, Name>) -> Vec<String> {
        let unsupported = |case: &&CaseReport| {
            case.verdict == Name::Unsupported && verdicts.get(&*case.id) == Some(&Name::Unsupported)
        };
        let reasons = self.cases.iter().filter(unsupported).filter_map(|case| case.why.clone());
        reasons.collect::<BTreeSet<_>>().into_iter().collect()
    }
}

/// The counts of a summary that are not 0, and always `passed`.
pub(super) fn counts(summary: &Summary, part: impl Fn(usize, &str) -> String) -> Vec<String> {
    let Summary { passed, failed, not_verified, unsupported_cases, not_applicable, .. } = *summary;
    let others = [
        (failed, "failed"),
        (not_verified, "not verified"),
        (unsupported_cases, "unsupported"),
        (not_applicable, "not applicable"),
    ];
    let others = others.into_iter().filter(|(count, _)| *count > 0);
    [(passed, "passed")].into_iter().chain(others).map(|(count, what)| part(count, what)).collect()
}

/// The date of a day since the Unix epoch.
fn date(day: u64) -> String {
    let moment = Timestamp::from_millis(day * 86_400_000).to_string();
    moment.split('T').next().unwrap_or_default().to_owned()
}

impl CaseReport {
    pub(crate) fn new(case: &Case, variant: &str, seed: u64, outcome: &Outcome) -> Self {
        let (verdict, why) = match &outcome.verdict {
            Verdict::Passed => (Name::Passed, None),
            Verdict::Failed(why) => (Name::Failed, Some(why.clone())),
            Verdict::Unsupported(why) => (Name::Unsupported, Some(why.clone())),
            Verdict::NotVerified(why) => (Name::NotVerified, Some(why.clone())),
            Verdict::NotApplicable(why) => (Name::NotApplicable, Some(why.clone())),
        };
        let mut lateness = outcome.lateness.clone();
        lateness.sort_unstable();
        let has_failed = verdict == Name::Failed;
        Self {
            id: case.id.into(),
            variant: variant.into(),
            tier: case.tier as u8,
            property: case.property.into(),
            verdict,
            why,
            seconds: outcome.took.as_secs_f64(),
            runs: once(),
            failed_seeds: if has_failed { vec![seed] } else { Vec::new() },
            lateness,
            around: has_failed.then(|| outcome.around()),
            history: has_failed.then(|| outcome.history.tail(KEPT)),
            whole: has_failed.then(|| outcome.history.clone()),
        }
    }

    /// Adds another run. The gravest verdict counts, and of several failures the first is shown.
    fn add_run(&mut self, run: Self) {
        let runs = self.runs + run.runs;
        let seconds = self.seconds + run.seconds;
        let failed_seeds = [&self.failed_seeds[..], &run.failed_seeds].concat();
        let mut lateness = [&self.lateness[..], &run.lateness].concat();
        lateness.sort_unstable();
        let shown = if run.verdict > self.verdict { run } else { self.clone() };
        *self = Self { runs, seconds, failed_seeds, lateness, ..shown };
    }

    /// How many of several runs failed, and with which seeds. Empty after one run.
    pub(crate) fn told_of_runs(&self) -> String {
        let seeds = self.failed_seeds.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        match (self.runs, self.failed_seeds.len()) {
            (..=1, _) => String::new(),
            (runs, 0) => format!("{runs} runs, each with another seed"),
            (runs, failed) => format!("{failed} of {runs} runs failed, with the seeds {seeds}"),
        }
    }

    /// The file with the whole history of a failure, beside the page.
    pub(crate) fn history_file(&self, broker: &str) -> String {
        let variant = if self.variant.is_empty() { String::new() } else { format!("{}.", self.variant) };
        format!("{broker}.{variant}{}.history.txt", self.id)
    }
}

impl Outcome {
    /// The part of the history around the entry that shows the failure, or else the end of the history.
    pub(crate) fn around(&self) -> String {
        let around = self.at.as_ref().and_then(|entry| self.history.around(entry, AROUND));
        around.unwrap_or_else(|| self.history.tail(2 * AROUND))
    }
}

fn once() -> usize {
    1
}

impl MutantReport {
    pub(crate) fn new(mutant: &Mutant, caught: &Result<String, String>, took: Duration) -> Self {
        let (Ok(how) | Err(how)) = caught.clone();
        Self {
            name: mutant.name.into(),
            breaks: mutant.breaks.into(),
            what: mutant.what.into(),
            caught: caught.is_ok(),
            how,
            seconds: took.as_secs_f64(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn report(cases: &[(&str, &str, Name)]) -> Report {
        let case = |(id, variant, verdict): &(&str, &str, Name)| CaseReport {
            id: (*id).into(),
            variant: (*variant).into(),
            tier: 1,
            property: "a < b & \"c\"".into(),
            verdict: *verdict,
            why: (*verdict != Name::Passed).then(|| "<why>".into()),
            seconds: 0.25,
            runs: 1,
            failed_seeds: if *verdict == Name::Failed { vec![17] } else { vec![] },
            lateness: vec![1, 2, 30],
            around: (*verdict == Name::Failed).then(|| "> settle <y>\n".into()),
            history: (*verdict == Name::Failed).then(|| "publish <x>\n".into()),
            whole: None,
        };
        Report {
            suite: "1".into(),
            broker: "b".into(),
            servers: [("file".to_owned(), "b 1".to_owned())].into(),
            declared_lateness: [("file".to_owned(), 5)].into(),
            date: "2026-11-23".into(),
            tier: 3,
            cases: cases.iter().map(case).collect(),
            mutants: vec![],
        }
    }

    #[test]
    fn a_case_counts_once_and_a_failure_outweighs_all() {
        use Name::{Failed, NotApplicable, NotVerified, Passed, Unsupported};
        let report = report(&[
            ("a.a", "file", Passed),
            ("a.a", "memory", Unsupported),
            ("a.b", "file", Failed),
            ("a.b", "memory", Passed),
            ("a.c", "file", NotVerified),
            ("a.c", "memory", Unsupported),
            ("a.d", "memory", Unsupported),
            ("a.e", "memory", NotApplicable),
            ("a.f", "file", Unsupported),
        ]);
        let summary = report.summary();
        assert_eq!((summary.passed, summary.failed, summary.not_verified, summary.not_applicable), (1, 1, 1, 1));
        // Two cases about one capability that the broker lacks.
        assert_eq!((summary.unsupported, summary.unsupported_cases), (1, 2));
        assert_eq!(summary.lacks, ["<why>"]);
    }

    #[test]
    fn several_runs_of_a_case_are_one_entry_with_the_gravest_verdict() {
        use Name::{Failed, Passed};
        let mut all = report(&[]);
        for (verdict, seed) in [(Passed, 1), (Failed, 2), (Passed, 3), (Failed, 4)] {
            let mut run = report(&[("a.a", "file", verdict)]).cases.remove(0);
            run.why = run.why.map(|_| format!("seed {seed}"));
            run.failed_seeds = if verdict == Failed { vec![seed] } else { vec![] };
            all.add_case(run);
        }
        all.add_case(report(&[("a.a", "memory", Passed)]).cases.remove(0));
        assert_eq!(all.cases.len(), 2);
        let case = &all.cases[0];
        assert_eq!((case.verdict, case.runs, case.why.as_deref()), (Failed, 4, Some("seed 2")));
        assert_eq!(case.told_of_runs(), "2 of 4 runs failed, with the seeds 2, 4");
        assert_eq!((case.lateness.len(), case.seconds), (12, 1.0));
        assert_eq!(all.cases[1].told_of_runs(), "");
        assert_eq!((all.summary().failed, all.summary().passed), (1, 0));
    }

    #[test]
    fn days_have_dates() {
        assert_eq!([0, 11_016, 19_782, 20_780].map(date), ["1970-01-01", "2000-02-29", "2024-02-29", "2026-11-23"]);
    }

    #[test]
    fn the_closing_line_has_the_fields_in_their_order() {
        let line = serde_json::to_string(&report(&[("a.a", "", Name::Passed)]).summary()).unwrap();
        let expected = r#"{"broker":"b","passed":1,"failed":0,"not_verified":0,"unsupported":0,"lacks":[],"unsupported_cases":0,"mutants_caught":0,"mutants_total":0,"not_applicable":0,"versions":["b 1"]}"#;
        assert_eq!(line, expected);
    }
}

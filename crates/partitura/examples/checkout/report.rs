use std::collections::BTreeMap;
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use partitura::WorkflowError;
use serde::Serialize;

use crate::audit::Audit;
use crate::intake::Intake;
use crate::outcome::Outcome;
use crate::shop::Settled;

/// The outcomes of the orders of this run.
#[derive(Debug)]
pub struct Report {
    outcomes: Vec<Option<Outcome>>,
    latencies: Vec<Duration>,
    skipped: usize,
}

/// For programs: the last line on stdout.
#[derive(Debug, Serialize)]
struct Figures {
    orders: usize,
    completed: usize,
    compensated: usize,
    failed: usize,
    skipped: usize,
    lost: usize,
    per_s: f64,
    p50_ms: f64,
    p99_ms: f64,
    reconciled: bool,
}

impl Report {
    pub fn new(intake: &Intake) -> Self {
        Self { outcomes: vec![None; intake.orders.len()], latencies: Vec::new(), skipped: intake.skipped.len() }
    }

    pub fn add(&mut self, Settled { index, order, outcome, took }: Settled) {
        let outcome = match outcome {
            Ok(_) => Outcome::Completed,
            Err(WorkflowError::Client(error)) => {
                eprintln!("what became of order {order} is not known: {error}");
                return;
            }
            Err(WorkflowError::Failed(error)) if error.expected().is_some() => {
                Outcome::Compensated(error.expected().unwrap_or_default())
            }
            Err(error) => {
                eprintln!("order {order} failed: {error}");
                Outcome::Failed(error.to_string())
            }
        };
        self.outcomes[index] = Some(outcome);
        self.latencies.push(took);
    }

    pub fn outcomes(&self) -> &[Option<Outcome>] {
        &self.outcomes
    }

    pub fn settled(&self) -> usize {
        self.latencies.len()
    }

    /// Prints it, and says whether all is well.
    pub fn print(mut self, audit: &Audit, took: Duration, json: bool) -> Result<ExitCode, Box<dyn Error>> {
        self.latencies.sort_unstable();
        let figures = self.figures(audit, took);
        self.print_table(&figures, audit, took);
        if json {
            println!("{}", serde_json::to_string(&figures)?);
        }
        let is_well = figures.reconciled && figures.lost == 0 && figures.failed == 0;
        Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn figures(&self, audit: &Audit, took: Duration) -> Figures {
        let count = |wanted: fn(&Outcome) -> bool| self.outcomes.iter().flatten().filter(|one| wanted(one)).count();
        Figures {
            orders: self.outcomes.len(),
            completed: count(|outcome| matches!(outcome, Outcome::Completed)),
            compensated: count(|outcome| matches!(outcome, Outcome::Compensated(_))),
            failed: count(|outcome| matches!(outcome, Outcome::Failed(_))),
            skipped: self.skipped,
            lost: self.outcomes.iter().filter(|outcome| outcome.is_none()).count(),
            per_s: tenths(self.settled() as f64 / took.as_secs_f64()),
            p50_ms: self.percentile(0.5),
            p99_ms: self.percentile(0.99),
            reconciled: audit.reconciled(),
        }
    }

    fn print_table(&self, figures: &Figures, audit: &Audit, took: Duration) {
        let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
        for outcome in self.outcomes.iter().flatten() {
            if let Outcome::Compensated(reason) = outcome {
                *reasons.entry(reason).or_default() += 1;
            }
        }
        let row = |name: &str, n: usize| println!("{name:<24} {n:>9}");
        println!();
        row("orders", figures.orders);
        row("  completed", figures.completed);
        row("  compensated", figures.compensated);
        reasons.iter().for_each(|(reason, n)| row(&format!("    {reason}"), *n));
        row("  failed", figures.failed);
        row("  lost", figures.lost);
        row("lines skipped", figures.skipped);
        println!();
        for (name, p) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("slowest", 1.0)] {
            println!("{name:<24} {:>9.1} ms", self.percentile(p));
        }
        println!("{:<24} {:>9.1} orders/s, {:.1} s in all", "rate", figures.per_s, took.as_secs_f64());
        println!();
        println!("{:<24} {:>12}", "charged", money(audit.charged));
        println!("{:<24} {:>12}", "refunded", money(audit.refunded));
        println!("{:<24} {:>12}", "due for completed orders", money(audit.owed));
        println!("{:<24} {:>12}", "the ledgers agree", if audit.reconciled() { "yes" } else { "NO" });
        audit.mismatches.iter().for_each(|mismatch| eprintln!("mismatch: {mismatch}"));
    }

    /// In milliseconds; the latencies are sorted.
    fn percentile(&self, p: f64) -> f64 {
        let rank = (self.latencies.len() as f64 * p).ceil() as usize;
        let latency = self.latencies.get(rank.saturating_sub(1)).copied().unwrap_or_default();
        tenths(latency.as_secs_f64() * 1_000.0)
    }
}

fn tenths(number: f64) -> f64 {
    if number.is_finite() { (number * 10.0).round() / 10.0 } else { 0.0 }
}

fn money(cents: u128) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

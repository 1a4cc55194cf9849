use std::fmt::Write as _;

use serde::Serialize;

use crate::{Timed, Usage};

/// One figure: a line of JSON in the form of the other engines' benchmarks.
#[derive(Debug, Clone, Serialize)]
pub struct Measure {
    /// The engine that was measured.
    pub peer: String,
    /// The workload.
    pub workload: String,
    /// Requests in flight.
    pub concurrency: usize,
    /// Requests in all, warm-up not counted.
    pub n: usize,
    /// Requests done per second.
    pub per_s: f64,
    /// Half of the requests took no longer, in milliseconds.
    pub p50_ms: f64,
    /// All but a hundredth of them took no longer.
    pub p99_ms: f64,
    /// Notes about the figure.
    pub notes: String,
}

impl Measure {
    /// Makes a figure from the measurements of a closed loop and the use of the machine meanwhile.
    pub fn new(peer: &str, workload: &str, concurrency: usize, timed: &Timed, notes: &str, usage: &Usage) -> Self {
        let n = timed.latencies.len();
        let round = |value: f64| (value * 10.0).round() / 10.0;
        let notes: Vec<_> = [notes.to_owned(), usage.to_string()].into_iter().filter(|note| !note.is_empty()).collect();
        Self {
            peer: peer.to_owned(),
            workload: workload.to_owned(),
            concurrency,
            n,
            per_s: round(n as f64 / timed.took.as_secs_f64()),
            p50_ms: round(timed.latencies.percentile_ms(0.5)),
            p99_ms: round(timed.latencies.percentile_ms(0.99)),
            notes: notes.join("; "),
        }
    }
}

/// The figures as a table for a terminal, the notes below it.
pub fn table(measures: &[Measure]) -> String {
    let mut text = format!(
        "{:<10} {:>9} {:>8} {:>12} {:>10} {:>10}\n",
        "workload", "in flight", "n", "per second", "p50 ms", "p99 ms"
    );
    for measure in measures {
        let Measure { workload, concurrency, n, per_s, p50_ms, p99_ms, .. } = measure;
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{workload:<10} {concurrency:>9} {n:>8} {per_s:>12.1} {p50_ms:>10.1} {p99_ms:>10.1}");
    }
    for measure in measures {
        let _ = write!(text, "\n{} at {}: {}", measure.workload, measure.concurrency, measure.notes);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Latencies;

    #[test]
    fn a_measure_has_the_peers_line_shape() {
        let timed = Timed {
            took: Duration::from_secs(2),
            latencies: Latencies::new((1..=10).map(Duration::from_millis).collect()),
        };
        let measure = Measure::new("partitura-embedded", "seq", 50, &timed, "synced", &Usage::default());
        let line = serde_json::to_value(&measure).expect("plain data");
        let mut fields: Vec<_> = line.as_object().expect("an object").keys().cloned().collect();
        fields.sort();
        assert_eq!(fields, ["concurrency", "n", "notes", "p50_ms", "p99_ms", "peer", "per_s", "workload"]);
        assert_eq!(line["per_s"], 5.0);
        assert_eq!(line["notes"], "synced");
    }
}

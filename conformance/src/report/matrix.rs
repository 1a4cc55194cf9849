//! The cases and the brokers as one Markdown table, for the documentation.

use std::collections::{BTreeMap, BTreeSet};

use super::results::{CaseReport, Name, Report, counts};
use crate::check::Lateness;

/// A table of all brokers, and the lateness of their delayed messages.
pub(super) fn write(reports: &[Report]) -> String {
    [heading(reports), cases(reports), reasons(reports), lateness(reports)].join("\n")
}

fn heading(reports: &[Report]) -> String {
    let all = |of: fn(&Report) -> String| {
        reports.iter().map(of).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ")
    };
    format!(
        "Suite {}, tiers 1 to {}, {}.\n\n✓ passed · ✗ failed · **u** unsupported · **?** not verified · – not applicable\n",
        all(|report| report.suite.clone()),
        all(|report| report.tier.to_string()),
        all(|report| report.date.clone()),
    )
}

fn row(cells: impl IntoIterator<Item = String>) -> String {
    format!("| {} |\n", cells.into_iter().collect::<Vec<_>>().join(" | "))
}

fn cases(reports: &[Report]) -> String {
    let verdicts: Vec<_> = reports.iter().map(Report::verdicts).collect();
    let ids: BTreeSet<&str> = verdicts.iter().flat_map(|verdicts| verdicts.keys().copied()).collect();
    let mut table = row([String::new()].into_iter().chain(reports.iter().map(|report| report.versions().join(", "))));
    table += &format!("|---{}|\n", "|:-:".repeat(reports.len()));
    let mut area = "";
    for id in ids {
        let of = id.split('.').next().unwrap_or_default();
        if of != area {
            table += &row([format!("**{of}**")].into_iter().chain(reports.iter().map(|_| String::new())));
            area = of;
        }
        let marks = verdicts.iter().map(|verdicts| verdicts.get(id).map_or("", |verdict| mark(*verdict)).to_owned());
        table += &row([format!("`{id}`")].into_iter().chain(marks));
    }
    let counted = reports.iter().map(|report| counts(&report.summary(), |count, what| format!("{count} {what}")));
    table + &row(["**in all**".to_owned()].into_iter().chain(counted.map(|parts| parts.join(", "))))
}

fn mark(verdict: Name) -> &'static str {
    match verdict {
        Name::Passed => "✓",
        Name::Failed => "✗",
        Name::Unsupported => "**u**",
        Name::NotVerified => "**?**",
        Name::NotApplicable => "–",
    }
}

/// The reason why a case did not pass.
fn reasons(reports: &[Report]) -> String {
    let mut reasons: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for report in reports {
        for (id, verdict) in report.verdicts() {
            let gave = |case: &&CaseReport| case.id == id && case.verdict == verdict && verdict != Name::Passed;
            let why = report.cases.iter().find(gave).and_then(|case| case.why.as_deref()?.lines().next());
            reasons.entry((&report.broker, why.unwrap_or_default())).or_default().push(id);
        }
    }
    let line = |((broker, why), ids): ((&str, &str), Vec<&str>)| {
        let ids: Vec<String> = ids.iter().map(|id| format!("`{id}`")).collect();
        format!("* {broker}: {why}: {}\n", ids.join(", "))
    };
    reasons.into_iter().filter(|((_, why), _)| !why.is_empty()).map(line).collect()
}

fn lateness(reports: &[Report]) -> String {
    let mut table = String::from("How late delayed messages came, in milliseconds:\n\n");
    table += "| | case | p50 | p99 | max | declared p99 |\n|---|---|--:|--:|--:|--:|\n";
    for report in reports {
        for case in report.cases.iter().filter(|case| !case.lateness.is_empty()) {
            let lateness = Lateness::new(case.lateness.clone());
            let quantile = |part| lateness.quantile(part).to_string();
            let declared = report.declared_lateness.get(&case.variant).map_or(String::new(), u64::to_string);
            let broker = format!("{} {}", report.broker, case.variant).trim_end().to_owned();
            let id = format!("`{}`", case.id);
            table += &row([broker, id, quantile(0.5), quantile(0.99), quantile(1.0), declared]);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::results::tests::report;

    #[test]
    fn every_broker_has_a_column_and_every_case_a_row_with_its_mark() {
        let text = write(&[report(&[
            ("ack.a", "file", Name::Passed),
            ("ack.b", "file", Name::Failed),
            ("order.a", "file", Name::Unsupported),
            ("order.b", "file", Name::NotApplicable),
        ])]);
        for part in [
            "Suite 1, tiers 1 to 3, 2026-11-23.",
            "|  | b 1 |\n|---|:-:|\n| **ack** |  |\n| `ack.a` | ✓ |\n| `ack.b` | ✗ |\n| **order** |  |\n",
            "| **in all** | 1 passed, 1 failed, 1 unsupported, 1 not applicable |",
            "* b: <why>: `ack.b`, `order.a`, `order.b`\n",
            "| b file | `ack.a` | 2 | 30 | 30 | 5 |",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }
}

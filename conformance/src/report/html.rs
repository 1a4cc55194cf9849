//! One page about all brokers, without external resources.

use std::collections::BTreeMap;

use super::chart::lateness_chart;
use super::junit::escape;
use super::results::{CaseReport, Name, Report};
use crate::check::Lateness;

/// A column: a broker, and a way to run it.
type Column<'r> = (&'r Report, &'r str);

pub(super) fn write(reports: &[Report]) -> String {
    let columns: Vec<Column<'_>> = reports
        .iter()
        .flat_map(|report| report.servers.keys().map(move |variant| (report, variant.as_str())))
        .collect();
    let body = [
        heading(reports),
        failures(&columns),
        matrix(&columns),
        not_run(&columns),
        delays(&columns),
        reports.iter().map(mutants).collect::<String>(),
    ];
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>Conformance</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n{}</body>\n</html>\n",
        body.concat()
    )
}

fn heading(reports: &[Report]) -> String {
    let mut html = String::from("<h1>Conformance</h1>\n<div class=\"cards\">\n");
    for report in reports {
        let summary = report.summary();
        let servers: Vec<String> = report
            .servers
            .iter()
            .map(|(variant, server)| if variant.is_empty() { server.clone() } else { format!("{server}, {variant}") })
            .collect();
        let verdict = if summary.failed == 0 { "passed" } else { "failed" };
        html += &format!(
            "<div class=\"card {verdict}\"><h2>{}</h2><p>{}</p><p class=\"count\">{}</p><p>tiers 1–{} · suite {} · {}</p></div>\n",
            escape(&report.broker),
            escape(&servers.join(" · ")),
            counted(&summary),
            report.tier,
            escape(&report.suite),
            escape(&report.date),
        );
    }
    html + "</div>\n"
}

fn counted(summary: &super::results::Summary) -> String {
    let part = |count, what: &str| format!("<b class=\"{}\">{count}</b> {what}", what.replace(' ', "_"));
    let mut parts = super::results::counts(summary, part);
    if summary.mutants_total > 0 {
        parts.push(format!("<b>{}</b> of {} mutants caught", summary.mutants_caught, summary.mutants_total));
    }
    parts.join(" · ")
}

/// Failures come first, with the history that shows them.
fn failures(columns: &[Column<'_>]) -> String {
    let mut html = String::new();
    for (report, variant) in columns {
        let failed = report.cases.iter().filter(|case| case.variant == *variant && case.verdict == Name::Failed);
        for case in failed {
            html += &format!(
                "<section class=\"failure\" id=\"{}\"><h3><code>{}</code> on {} {}</h3><p>{}</p><p>{}</p><pre class=\"why\">{}</pre>\
                 <pre>{}</pre><details><summary>the history's end</summary><pre>{}</pre></details>\
                 <p><a href=\"{}\">the whole history</a></p></section>\n",
                anchor(report, variant, &case.id),
                escape(&case.id),
                escape(&report.broker),
                escape(variant),
                escape(&case.property),
                escape(&case.told_of_runs()),
                escape(case.why.as_deref().unwrap_or_default()),
                escape(case.around.as_deref().unwrap_or_default()),
                escape(case.history.as_deref().unwrap_or_default()),
                escape(&case.history_file(&report.broker)),
            );
        }
    }
    if html.is_empty() { html } else { format!("<h2>Failures</h2>\n{html}") }
}

fn anchor(report: &Report, variant: &str, id: &str) -> String {
    escape(&format!("{}-{variant}-{id}", report.broker))
}

fn matrix(columns: &[Column<'_>]) -> String {
    let mut rows: BTreeMap<&str, &CaseReport> = BTreeMap::new();
    for (report, _) in columns {
        rows.extend(report.cases.iter().map(|case| (case.id.as_str(), case)));
    }
    let mut html = String::from("<h2>Cases</h2>\n<table>\n<thead><tr><th>case</th><th>property</th><th>tier</th>");
    for (report, variant) in columns {
        html += &format!("<th>{}<br><small>{}</small></th>", escape(&report.broker), escape(variant));
    }
    html += "</tr></thead>\n<tbody>\n";
    let mut area = "";
    for (id, row) in &rows {
        let (of, name) = id.split_once('.').unwrap_or(("", id));
        if of != area {
            html += &format!("<tr class=\"area\"><th colspan=\"{}\">{}</th></tr>\n", columns.len() + 3, escape(of));
            area = of;
        }
        let (name, property, tier) = (escape(name), escape(&row.property), row.tier);
        html += &format!("<tr><td><code>{name}</code></td><td>{property}</td><td class=\"tier\">{tier}</td>");
        for (report, variant) in columns {
            let found = report.cases.iter().find(|case| case.id == *id && case.variant == *variant);
            html += &found.map_or("<td></td>".to_owned(), |case| cell(report, variant, case));
        }
        html += "</tr>\n";
    }
    html + "</tbody>\n</table>\n"
}

fn cell(report: &Report, variant: &str, case: &CaseReport) -> String {
    let why = escape(case.why.as_deref().unwrap_or_default());
    match case.verdict {
        Name::Passed => {
            let told = escape(&case.told_of_runs());
            format!("<td class=\"passed\" title=\"{:.2} s {told}\">passed</td>", case.seconds)
        }
        Name::Failed => {
            format!("<td class=\"failed\"><a href=\"#{}\">failed</a></td>", anchor(report, variant, &case.id))
        }
        Name::Unsupported => format!("<td class=\"unsupported\" title=\"{why}\">unsupported</td>"),
        Name::NotVerified => format!("<td class=\"not_verified\" title=\"{why}\">not verified</td>"),
        Name::NotApplicable => format!("<td class=\"unsupported\" title=\"{why}\">not applicable</td>"),
    }
}

/// The cases that were not run, by the reason.
fn not_run(columns: &[Column<'_>]) -> String {
    let mut reasons: BTreeMap<(Name, &str, &str, &str), Vec<String>> = BTreeMap::new();
    for (report, variant) in columns {
        for case in report.cases.iter().filter(|case| case.variant == *variant && case.verdict < Name::Passed) {
            let why = case.why.as_deref().unwrap_or("no reason");
            let cases = reasons.entry((case.verdict, &report.broker, variant, why)).or_default();
            cases.push(format!("<code>{}</code>", escape(&case.id)));
        }
    }
    if reasons.is_empty() {
        return String::new();
    }
    let mut html = String::from(
        "<h2>Not run</h2>\n<table>\n<thead><tr><th>broker</th><th></th><th>why</th><th>cases</th></tr></thead>\n<tbody>\n",
    );
    // Cases whose hook is missing come first: they can be had.
    for ((verdict, broker, variant, why), cases) in reasons.into_iter().rev() {
        let (class, word) = match verdict {
            Name::NotVerified => ("not_verified", "not verified"),
            Name::Unsupported => ("unsupported", "unsupported"),
            _ => ("unsupported", "not applicable"),
        };
        html += &format!(
            "<tr><td>{} {}</td><td class=\"{class}\">{word}</td><td>{}</td><td class=\"how\">{}</td></tr>\n",
            escape(broker),
            escape(variant),
            escape(why),
            cases.join(", "),
        );
    }
    html + "</tbody>\n</table>\n"
}

fn delays(columns: &[Column<'_>]) -> String {
    let mut html = String::new();
    for (report, variant) in columns {
        for case in report.cases.iter().filter(|case| case.variant == *variant && !case.lateness.is_empty()) {
            html += &format!(
                "<figure><figcaption><code>{}</code> on {} {}</figcaption>{}</figure>\n",
                escape(&case.id),
                escape(&report.broker),
                escape(variant),
                lateness_chart(&Lateness::new(case.lateness.clone())),
            );
        }
    }
    if html.is_empty() {
        html
    } else {
        format!("<h2>How late delayed messages come</h2>\n<div class=\"charts\">{html}</div>\n")
    }
}

fn mutants(report: &Report) -> String {
    if report.mutants.is_empty() {
        return String::new();
    }
    let mut html = format!(
        "<h2>Mutants of {}</h2>\n<p>Each is the broker, or lanes on it, with one promise broken, and has to fail the case named beforehand.</p>\n\
         <table>\n<thead><tr><th>mutant</th><th>what it does</th><th>case</th><th></th><th>how it was found</th></tr></thead>\n<tbody>\n",
        escape(&report.broker)
    );
    for mutant in &report.mutants {
        let (class, word) = if mutant.caught { ("passed", "caught") } else { ("failed", "got away") };
        let how: String = mutant.how.lines().next().unwrap_or_default().chars().take(160).collect();
        html += &format!(
            "<tr><td><code>{}</code></td><td>{}</td><td><code>{}</code></td><td class=\"{class}\">{word}</td><td class=\"how\">{}</td></tr>\n",
            escape(&mutant.name),
            escape(&mutant.what),
            escape(&mutant.breaks),
            escape(&how),
        );
    }
    html + "</tbody>\n</table>\n"
}

const STYLE: &str = "
:root{--ink:#1d2430;--soft:#5d6878;--line:#e3e7ee;--good:#1a7f4b;--goodbg:#e8f6ee;--bad:#b3261e;--badbg:#fdecea;--idle:#8a6d1a;--idlebg:#fdf6e0;--grey:#f4f6f9}
*{box-sizing:border-box}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);max-width:1180px;margin:2.5rem auto;padding:0 1.25rem}
h1{font-size:1.9rem;margin:0 0 1rem}h2{font-size:1.25rem;margin:2.2rem 0 .6rem}h3{font-size:1rem;margin:.2rem 0}
code,pre{font:13px/1.45 ui-monospace,monospace}
.cards{display:flex;flex-wrap:wrap;gap:1rem}
.card{border:1px solid var(--line);border-left:5px solid var(--good);border-radius:6px;padding:.8rem 1.2rem;min-width:19rem}
.card.failed{border-left-color:var(--bad)}.card h2{margin:0}.card p{margin:.15rem 0;color:var(--soft)}.card .count{color:var(--ink)}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.32rem .6rem;border-bottom:1px solid var(--line);vertical-align:top}
thead th{position:sticky;top:0;background:#fff;border-bottom:2px solid var(--line);font-weight:600}
tr.area th{background:var(--grey);text-transform:uppercase;letter-spacing:.06em;font-size:.72rem;color:var(--soft)}
td.tier{text-align:center;color:var(--soft)}
td.passed,td.failed,td.unsupported,td.not_verified{white-space:nowrap;font-size:.85rem}
td.passed{color:var(--good);background:var(--goodbg)}td.failed,td.failed a,b.failed{color:var(--bad)}td.failed{background:var(--badbg);font-weight:600}
td.unsupported{color:var(--soft);background:var(--grey)}td.not_verified,b.not_verified{color:var(--idle);background:var(--idlebg)}
td.how{color:var(--soft);font-size:.85rem;overflow-wrap:anywhere}
.failure{border:1px solid var(--line);border-left:5px solid var(--bad);border-radius:6px;padding:.7rem 1rem;margin:.8rem 0}
.failure p{margin:.1rem 0;color:var(--soft)}pre{overflow-x:auto;background:var(--grey);padding:.7rem;border-radius:4px;max-height:32rem}pre.why{background:var(--badbg);white-space:pre-wrap}
.charts{display:flex;flex-wrap:wrap;gap:1.2rem}figure{margin:0;border:1px solid var(--line);border-radius:6px;padding:.7rem 1rem}figcaption{color:var(--soft);margin-bottom:.4rem}
svg text{font:11px system-ui,sans-serif;fill:var(--soft)}
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::results::tests::report;

    #[test]
    fn the_page_says_why_cases_were_not_run() {
        let idle = [("order.idle", "file", Name::NotVerified), ("order.lazy", "file", Name::NotVerified)];
        let page = write(&[report(&idle)]);
        let row = "<td class=\"not_verified\">not verified</td><td>&lt;why&gt;</td>\
                   <td class=\"how\"><code>order.idle</code>, <code>order.lazy</code></td>";
        assert!(page.contains(row), "{page}");
        assert!(!write(&[report(&[("order.good", "file", Name::Passed)])]).contains("Not run"));
    }

    #[test]
    fn of_several_runs_the_page_says_how_many_failed() {
        let mut all = report(&[("order.bad", "file", Name::Failed)]);
        all.add_case(report(&[("order.bad", "file", Name::Passed)]).cases.remove(0));
        assert!(write(&[all]).contains("1 of 2 runs failed, with the seeds 17"));
    }

    #[test]
    fn the_page_shows_every_verdict_and_the_history_of_a_failure() {
        let page = write(&[report(&[
            ("order.good", "file", Name::Passed),
            ("order.bad", "file", Name::Failed),
            ("order.idle", "file", Name::NotVerified),
            ("order.never", "file", Name::Unsupported),
        ])]);
        for part in [
            ">passed</td>",
            "#b-file-order.bad",
            "publish &lt;x&gt;",
            "&gt; settle &lt;y&gt;",
            "href=\"b.file.order.bad.history.txt\"",
            ">not verified</td>",
            "title=\"&lt;why&gt;\"",
            "<svg",
        ] {
            assert!(page.contains(part), "{part} is missing");
        }
        assert!(!page.contains("http"), "nothing comes from elsewhere");
    }
}

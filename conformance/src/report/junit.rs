use super::results::{Name, Report};

/// As JUnit's XML, which every CI system reads.
pub(super) fn write(report: &Report) -> String {
    let count = |verdicts: &[Name]| report.cases.iter().filter(|case| verdicts.contains(&case.verdict)).count();
    let missed = report.mutants.iter().filter(|mutant| !mutant.caught).count();
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"conformance of {}\" tests=\"{}\" failures=\"{}\" skipped=\"{}\">\n",
        escape(&report.broker),
        report.cases.len() + report.mutants.len(),
        count(&[Name::Failed]) + missed,
        count(&[Name::Unsupported, Name::NotVerified, Name::NotApplicable]),
    );
    for case in &report.cases {
        let class = format!("{}.{}", report.broker, if case.variant.is_empty() { "cases" } else { &case.variant });
        let (why, history) = (case.why.as_deref().unwrap_or_default(), case.history.as_deref().unwrap_or_default());
        let inside = match case.verdict {
            Name::Passed => String::new(),
            Name::Failed => format!("<failure message=\"{}\">{}</failure>", escape(why), escape(history)),
            Name::Unsupported => format!("<skipped message=\"unsupported: {}\"/>", escape(why)),
            Name::NotVerified => format!("<skipped message=\"not verified: {}\"/>", escape(why)),
            Name::NotApplicable => format!("<skipped message=\"not applicable: {}\"/>", escape(why)),
        };
        xml += &test(&class, &case.id, case.seconds, &inside);
    }
    for mutant in &report.mutants {
        let missed = format!("<failure message=\"{}\"/>", escape(&mutant.how));
        let inside = if mutant.caught { "" } else { &missed };
        xml += &test(&format!("{}.mutants", report.broker), &mutant.name, mutant.seconds, inside);
    }
    xml + "</testsuite>\n"
}

fn test(class: &str, name: &str, seconds: f64, inside: &str) -> String {
    let (class, name) = (escape(class), escape(name));
    format!("  <testcase classname=\"{class}\" name=\"{name}\" time=\"{seconds:.3}\">{inside}</testcase>\n")
}

/// Escapes text and attributes of XML and HTML. Control characters, which XML does not allow, become `�`.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\n' | '\t' => out.push(character),
            other if other.is_control() => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::results::tests::report;

    #[test]
    fn failures_and_skips_are_counted_and_text_is_escaped() {
        let xml =
            write(&report(&[("a.a", "file", Name::Passed), ("a.b", "", Name::Failed), ("a.c", "", Name::NotVerified)]));
        assert!(xml.contains("tests=\"3\" failures=\"1\" skipped=\"1\""), "{xml}");
        assert!(xml.contains("<failure message=\"&lt;why&gt;\">publish &lt;x&gt;\n</failure>"), "{xml}");
        assert!(xml.contains("not verified: &lt;why&gt;"), "{xml}");
        assert_eq!(escape("\u{0}\""), "\u{fffd}&quot;");
    }
}

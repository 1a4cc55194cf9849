//! The pages of the book say what the code has.

use std::collections::BTreeSet;

/// The codes in the `fn code` of a source file.
fn codes(source: &str) -> BTreeSet<String> {
    let functions =
        source.split("fn code(").skip(1).map(|rest| rest.split_once("\n    }\n").map_or(rest, |(body, _)| body));
    let quoted = functions.flat_map(|body| body.split('"').skip(1).step_by(2));
    quoted.map(str::to_owned).collect()
}

/// Gives the names in backticks at the beginning of the rows of a page's tables.
fn rows(page: &str) -> impl Iterator<Item = &str> {
    page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next())
}

#[test]
fn every_code_of_an_error_is_on_the_page_of_errors_and_no_other_is() {
    let sources = [
        include_str!("../../../broker/src/error.rs"),
        include_str!("../../../engine/src/error.rs"),
        include_str!("../../../workflow/src/errors.rs"),
    ];
    let there: BTreeSet<String> = sources.into_iter().flat_map(codes).collect();
    let told: BTreeSet<String> =
        rows(include_str!("../../../../docs/reference/errors.md")).map(str::to_owned).collect();
    assert!(there.len() > 40, "{there:?}");
    assert_eq!(told, there);
}

#[test]
fn every_setting_is_on_the_page_of_settings() {
    let page = include_str!("../../../../docs/reference/settings.md");
    let told: BTreeSet<&str> = rows(page).collect();
    let sources = [
        include_str!("../../../engine/src/builder.rs"),
        include_str!("../../../engine/src/worker.rs"),
        include_str!("../../src/connect.rs"),
        include_str!("../../../store-postgres/src/options.rs"),
    ];
    for source in sources {
        let public = source
            .split("    pub fn ")
            .skip(1)
            .filter(|rest| rest.lines().next().is_some_and(|line| line.contains("mut self")));
        for name in public.filter_map(|rest| rest.split(['(', '<']).next()) {
            assert!(told.contains(name), "docs/reference/settings.md does not have {name}");
        }
    }
}

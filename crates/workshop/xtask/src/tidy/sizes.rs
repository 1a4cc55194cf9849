//! Files and functions are short enough to be read at once.

use super::problem::Problem;
use super::source::without_comments;
use crate::repository::Repository;

/// The most lines of a file.
const FILE: usize = 400;
/// The most lines of a function, from its name to its closing brace.
const FUNCTION: usize = 70;

/// Files that are longer, or have longer functions. A file leaves this list when it is short enough.
const LONG: &[&str] = &[
    "adapters/embedded/tests/it/model.rs",
    "adapters/embedded/tests/it/ownership.rs",
    "crates/lanes/src/core/simulation.rs",
    "crates/macros/src/workflow.rs",
];

pub(super) fn check(repository: &Repository) -> Vec<Problem> {
    let files = repository.files.iter().filter(|(path, _)| path.ends_with(".rs"));
    files.flat_map(|(path, text)| check_file(path, text)).collect()
}

fn check_file(path: &str, text: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    let lines = text.lines().count();
    if lines > FILE {
        problems.push(Problem::new(path, format!("has {lines} lines; divide it, {FILE} are the most")));
    }
    for Function { name, line, lines } in functions(text).into_iter().filter(|function| function.lines > FUNCTION) {
        let what = format!("`{name}` has {lines} lines; divide it, {FUNCTION} are the most");
        problems.push(Problem::new(format!("{path}:{line}"), what));
    }
    match (LONG.contains(&path), problems.is_empty()) {
        (true, true) => vec![Problem::new(path, "is short enough now; take it off the list in tidy/sizes.rs")],
        (true, false) => Vec::new(),
        (false, _) => problems,
    }
}

struct Function {
    name: String,
    /// Its first line, from 1.
    line: usize,
    lines: usize,
}

/// Reads the functions of formatted code: one ends with the first line that is indented like it and closes something.
fn functions(text: &str) -> Vec<Function> {
    let code = without_comments(text);
    let lines: Vec<&str> = code.lines().map(str::trim_end).collect();
    let indentation = |line: &str| line.len() - line.trim_start().len();
    let mut functions = Vec::new();
    for (first, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let ends =
            |other: &&str| !other.is_empty() && indentation(other) == indentation(line) && other.ends_with([';', '}']);
        let length = lines[first..].iter().position(ends).map_or(1, |last| last + 1);
        functions.push(Function { name: name.to_owned(), line: first + 1, lines: length });
    }
    functions
}

/// The name of the function that begins in this line.
fn function_name(line: &str) -> Option<&str> {
    let (before, after) = line.split_once("fn ")?;
    let is_qualifier = |word: &str| matches!(word, "async" | "const" | "default") || word.starts_with("pub");
    if !before.split_whitespace().all(is_qualifier) {
        return None;
    }
    let end = after.find(|character: char| !(character.is_alphanumeric() || character == '_'))?;
    Some(&after[..end]).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_lines(count: usize) -> String {
        format!("pub(crate) async fn long<T>(\n    of: T,\n) -> usize {{\n{}}}\n", "    f();\n".repeat(count - 4))
    }

    fn places(path: &str, text: &str) -> Vec<String> {
        check_file(path, text).into_iter().map(|problem| problem.place).collect()
    }

    #[test]
    fn a_long_function_is_reported_with_its_line() {
        let text = format!("fn short() {{}}\n{}", with_lines(71));
        assert_eq!(places("a.rs", &text), ["a.rs:2"]);
        assert_eq!(places("a.rs", &with_lines(70)), [""; 0]);
    }

    #[test]
    fn a_long_file_is_reported_and_so_is_a_listed_file_that_is_short() {
        assert_eq!(places("a.rs", &"use b;\n".repeat(401)), ["a.rs"]);
        assert_eq!(places("a.rs", &"use b;\n".repeat(400)), [""; 0]);
        assert_eq!(places(LONG[0], &"use b;\n".repeat(401)), [""; 0]);
        assert_eq!(places(LONG[0], "use b;\n").len(), 1);
    }

    #[test]
    fn declarations_types_and_words_are_no_functions() {
        let text =
            "trait T {\n    fn declared(\n        a: u8,\n    ) -> u8;\n}\nstruct F(fn (u8));\nlet f = \"fn x\";\n";
        let lengths: Vec<_> = functions(text).into_iter().map(|function| (function.name, function.lines)).collect();
        assert_eq!(lengths, [("declared".to_owned(), 3)]);
    }
}

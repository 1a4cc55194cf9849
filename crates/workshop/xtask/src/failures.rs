//! The trials that failed, read from what a test program has printed, so that a summary can name them.

use std::fmt::Write;
use std::path::Path;

/// The lines of a failed trial's message that are repeated. The rest stands in the program's output.
const LINES: usize = 6;

/// The characters of a line that are repeated.
const LINE_LENGTH: usize = 400;

/// The failed trials of the program whose output is in this file, each with the beginning of its message.
pub(crate) fn named_in(output: &Path) -> String {
    let bytes = std::fs::read(output).unwrap_or_default();
    named(&String::from_utf8_lossy(&bytes))
}

/// Reads the form that libtest and libtest-mimic share: sections with messages, then a list of names.
fn named(text: &str) -> String {
    let Some((before, names)) = text.rsplit_once("\nfailures:\n") else { return String::new() };
    let names = names.lines().map_while(|line| line.strip_prefix("    "));
    names.fold(String::new(), |mut all, name| {
        // Nothing can fail that writes into a string.
        _ = write!(all, "\n      {name}");
        for line in message(before, name).into_iter().take(LINES) {
            _ = write!(all, "\n        {}", line.chars().take(LINE_LENGTH).collect::<String>());
        }
        all
    })
}

/// The lines of the section about this trial that are not empty.
fn message<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let heads = [format!("---- {name} ----"), format!("---- {name} stdout ----")];
    let is_head = |line: &&str| heads.iter().any(|head| line.trim_end() == head);
    let section = text.lines().skip_while(|line| !is_head(line)).skip(1);
    section.take_while(|line| !line.starts_with("---- ")).filter(|line| !line.trim().is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failed_trial_is_named_with_its_message() {
        let text = "test a ... ok\ntest b ... FAILED\n\nfailures:\n\n---- b stdout ----\n\nthread 'b' panicked at x.rs:1:\n\
                    left is not right\n\n---- c ----\nlost 3\n\nfailures:\n    b\n    c\n\ntest result: FAILED.\n";
        let expected =
            "\n      b\n        thread 'b' panicked at x.rs:1:\n        left is not right\n      c\n        lost 3";
        assert_eq!(named(text), expected);
    }

    #[test]
    fn a_long_message_is_cut() {
        let lines = "line\n".repeat(LINES + 1);
        let text = format!("\nfailures:\n\n---- a ----\n{lines}{}\n\nfailures:\n    a\n", "x".repeat(LINE_LENGTH + 1));
        assert_eq!(named(&text).lines().count(), 2 + LINES);
    }

    #[test]
    fn a_program_that_ended_otherwise_names_none() {
        assert_eq!(named("terminate called without an active exception\n"), "");
    }
}

//! Words that a hurried reader may not know, or that name no subject; see the section "English" of CONTRIBUTING.md.

use super::problem::Problem;
use crate::repository::Repository;

/// A word or phrase, and the words to use instead. Upper and lower case are the same.
const WORDS: &[(&str, &str)] = &[
    ("at hand", "available"),
    ("dear", "expensive"),
    ("dearer", "more expensive"),
    ("dearest", "most expensive"),
    ("house's", "the repository's"),
    ("in vain", "without success"),
    ("lest", "so that … not"),
    ("save for", "except for"),
    ("save in", "except in"),
    ("save what", "except what"),
    ("so many", "this many, or the name of the parameter"),
    ("the exam", "the suite"),
    ("the house", "the repository"),
    ("whoever", "the noun that is meant: consumer, caller, owner"),
];

/// Records of the past, and files that quote the words.
const EXEMPT: &[&str] = &["CHANGELOG.md", "CONTRIBUTING.md", "crates/workshop/xtask/src/tidy/english.rs", "docs/adr/"];

/// Words that name no subject where a sentence of a comment begins with them.
const NO_SUBJECTS: &[&str] = &["What", "Who"];

pub(super) fn check(repository: &Repository) -> Vec<Problem> {
    let is_exempt = |path: &str| EXEMPT.iter().any(|prefix| path.starts_with(prefix));
    let files = repository.files.iter().filter(|(path, _)| !is_exempt(path));
    files.flat_map(|(path, text)| check_file(path, text).into_iter().chain(check_comments(path, text))).collect()
}

/// Finds the words in all of a file, also where a line break divides a phrase.
fn check_file(path: &str, text: &str) -> Vec<Problem> {
    let words = words(text);
    let mut problems = Vec::new();
    for (at, (line, _)) in words.iter().enumerate() {
        for (phrase, instead) in WORDS {
            let mut rest = words[at..].iter().map(|(_, word)| word.as_str());
            if phrase.split(' ').all(|wanted| rest.next() == Some(wanted)) {
                let place = format!("{path}:{line}");
                problems.push(Problem::new(place, format!("`{phrase}`: say \"{instead}\"")));
            }
        }
    }
    problems
}

/// Finds the sentences of a program's comments that begin with a word that names no subject. A question may.
fn check_comments(path: &str, text: &str) -> Vec<Problem> {
    if !path.ends_with(".rs") {
        return Vec::new();
    }
    let mut problems = Vec::new();
    let mut begins = true;
    for (number, line) in text.lines().enumerate() {
        let Some(comment) = line.trim_start().strip_prefix("//") else {
            begins = true;
            continue;
        };
        let comment = comment.trim_start_matches(['/', '!']).trim_start();
        begins |= comment.is_empty();
        let mut rest = comment;
        while let Some(word) = rest.split_whitespace().next() {
            if begins && NO_SUBJECTS.contains(&word) && !rest.contains('?') {
                let advice =
                    format!("a sentence begins with `{word}`: begin with a verb, or with the noun that is meant");
                problems.push(Problem::new(format!("{path}:{}", number + 1), advice));
            }
            begins = word.ends_with(['.', ':', ';', '?', '!']);
            rest = rest[word.len()..].trim_start();
        }
    }
    problems
}

/// The words of a text in lower case, each with its line, from 1. An identifier is one word.
fn words(text: &str) -> Vec<(usize, String)> {
    let is_part = |character: char| character.is_alphanumeric() || matches!(character, '_' | '\'');
    let of_line = |(number, line): (usize, &str)| {
        let parts = line.split(|character| !is_part(character)).filter(|part| !part.is_empty());
        parts.map(|part| (number + 1, part.trim_matches('\'').to_lowercase())).collect::<Vec<_>>()
    };
    text.lines().enumerate().flat_map(of_line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(path: &str, text: &str) -> Vec<String> {
        check_file(path, text).into_iter().map(|problem| problem.place).collect()
    }

    #[test]
    fn a_word_is_reported_in_comments_strings_and_pages_with_its_line() {
        assert_eq!(places("a.rs", "/// Fine.\nfn f() {} // Lest it fails.\n"), ["a.rs:2"]);
        assert_eq!(places("a.rs", "let text = \"waited in vain\";"), ["a.rs:1"]);
        assert_eq!(places("a.md", "# Title\n\nFor whoever reads this.\n"), ["a.md:3"]);
    }

    #[test]
    fn a_phrase_may_be_divided_by_a_line_break() {
        assert_eq!(places("a.rs", "    /// Waits until so\n    /// many are there.\n"), ["a.rs:1"]);
    }

    #[test]
    fn parts_of_words_and_identifiers_are_not_meant() {
        assert_eq!(places("a.rs", "fn so_many() { the_latest(); never_dearly(); } // The latest, and many."), [""; 0]);
    }

    #[test]
    fn a_sentence_of_a_comment_has_a_subject() {
        let found = |text: &str| check_comments("a.rs", text).into_iter().map(|one| one.place).collect::<Vec<_>>();
        assert_eq!(found("/// What it is.\nlet a = 1; // Who asks.\n"), ["a.rs:1"]);
        assert_eq!(found("// It waits.\n// Who asks later waits, too.\n"), ["a.rs:2"]);
        assert_eq!(found("// It says\n// What, and to whom.\n// What is wrong?\n"), [""; 0]);
    }

    #[test]
    fn the_report_says_what_to_write() {
        let found = check_file("a.md", "It is dearer.");
        assert!(found[0].to_string().contains("more expensive"), "{found:?}");
    }

    #[test]
    fn the_changelog_and_decisions_are_exempt() {
        let files = ["CHANGELOG.md", "docs/adr/0001-a.md"].map(|path| (path.to_owned(), "lest".to_owned()));
        assert_eq!(check(&Repository { files: files.into(), ..Repository::default() }), []);
    }
}

//! Rust source without its comments, for the checks that read code.

/// Returns the source with every comment, documentation included, replaced by blanks. Lines keep their numbers, and
/// strings are unchanged.
pub(super) fn without_comments(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let (length, is_comment) = match first {
            '/' if rest.starts_with("//") => (rest.find('\n').unwrap_or(rest.len()), true),
            '/' if rest.starts_with("/*") => (block_comment(rest), true),
            '"' => (string(rest), false),
            'r' if raw_string(rest) > 0 && !ends_in_name(&code) => (raw_string(rest), false),
            '\'' => (character(rest), false),
            _ => (first.len_utf8(), false),
        };
        let (token, after) = rest.split_at(length);
        if is_comment {
            code.extend(token.chars().filter(|character| *character == '\n'));
        } else {
            code.push_str(token);
        }
        rest = after;
    }
    code
}

/// Whether an `r` that comes next is part of a longer name; `br"…"` is not one.
fn ends_in_name(code: &str) -> bool {
    let code = code.strip_suffix('b').unwrap_or(code);
    code.ends_with(|character: char| character.is_alphanumeric() || character == '_')
}

/// The length of the block comment that `text` begins with; they nest.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// The length of the string literal that `text` begins with.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of the raw string literal that `text` begins with, 0 if it begins with none.
fn raw_string(text: &str) -> usize {
    let body = text[1..].trim_start_matches('#');
    if !body.starts_with('"') {
        return 0;
    }
    let hashes = text.len() - 1 - body.len();
    let close = format!("\"{}", "#".repeat(hashes));
    let open = hashes + 2;
    text[open..].find(&close).map_or(text.len(), |at| open + at + close.len())
}

/// The length of the character literal that `text` begins with; the quote alone where it begins a lifetime.
fn character(text: &str) -> usize {
    let mut characters = text.char_indices().skip(1);
    match characters.next() {
        Some((_, '\\')) => {
            characters.next();
            characters.find(|(_, character)| *character == '\'').map_or(text.len(), |(at, _)| at + 1)
        }
        Some(_) => match characters.next() {
            Some((at, '\'')) => at + 1,
            _ => 1,
        },
        None => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_documentation_go_and_lines_stay() {
        let source = "//! kafka\nfn a() {} // pulsar\n/// nats\n/* one /* two */\nthree */ fn b() {}\n";
        assert_eq!(without_comments(source), "\nfn a() {} \n\n\n fn b() {}\n");
    }

    #[test]
    fn what_looks_like_a_comment_in_a_string_is_code() {
        for source in [
            r#"let url = "kafka://host"; f()"#,
            r##"let raw = r#"a " // b"#; f()"##,
            r#"let bytes = br"// x"; f()"#,
            r#"let quote = "\" // x"; f()"#,
            r"let quote = '\''; let slash = '/'; f()",
            "let quote = '\"'; let text = \"// x\"; f()",
            "fn f<'a>(x: &'a str, var: &'static str) -> &'a str { x }",
            "let r#type = 1; for x in var { f() }",
        ] {
            assert_eq!(without_comments(source), source);
        }
    }

    #[test]
    fn code_after_a_literal_still_loses_its_comments() {
        assert_eq!(without_comments("f('\\\\', \"\\\\\") // x"), "f('\\\\', \"\\\\\") ");
        assert_eq!(without_comments("let c = 'é'; // x"), "let c = 'é'; ");
    }
}

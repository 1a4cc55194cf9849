//! `cargo conformance new`: writes a harness for the suite into the crate of an adapter.

mod manifest;
mod template;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use crate::template::Template;

const USAGE: &str = "\
usage: cargo conformance new NAME [--image IMAGE[:TAG] [--port PORT]]

Writes tests/conformance.rs, and what it needs into Cargo.toml, in the crate in this directory.
NAME is the broker's name: letters and digits. With an image the suite runs the broker in a container.";
/// The harness, in the crate of the adapter.
const TEST: &str = "tests/conformance.rs";
const MANIFEST: &str = "Cargo.toml";

fn main() -> ExitCode {
    let arguments = std::env::args().skip(1).collect::<Vec<_>>();
    let told = match read(&arguments) {
        Err(why) => Err(format!("{why}\n\n{USAGE}")),
        Ok(None) => Ok(USAGE.to_owned()),
        Ok(Some(template)) => write(Path::new("."), &template),
    };
    match told {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

/// The harness that the arguments ask for. `None`: they ask for help.
fn read(arguments: &[String]) -> Result<Option<Template>, String> {
    let mut words = arguments.iter().map(String::as_str).peekable();
    // Cargo gives the name of its command first.
    words.next_if_eq(&"conformance");
    match words.next() {
        Some("new") => {}
        None | Some("help" | "--help" | "-h") => return Ok(None),
        Some(other) => return Err(format!("there is no command {other:?}")),
    }
    let (mut name, mut image, mut port) = (None, None, None);
    while let Some(word) = words.next() {
        let mut value = || words.next().map(str::to_owned).ok_or_else(|| format!("{word} needs a value"));
        match word {
            "--help" | "-h" => return Ok(None),
            "--image" => image = Some(value()?),
            "--port" => {
                let port_text = value()?;
                port = Some(port_text.parse().map_err(|_| format!("a port is a number, and {port_text:?} is none"))?);
            }
            _ if word.starts_with('-') => return Err(format!("there is no option {word}")),
            _ if name.is_some() => return Err(format!("one name is enough; {word:?} is another")),
            _ => name = Some(word.to_owned()),
        }
    }
    let name = name.ok_or("the broker's name is missing")?;
    Template::new(name, image, port).map(Some)
}

/// Writes the harness into a crate. Nothing that is there is written over.
fn write(directory: &Path, template: &Template) -> Result<String, String> {
    let (test, manifest) = (directory.join(TEST), directory.join(MANIFEST));
    let before = fs::read_to_string(&manifest)
        .map_err(|error| format!("cannot read {MANIFEST}; run this in the directory of a crate: {error}"))?;
    if test.exists() {
        return Err(format!("{TEST} exists; move it away to have a new one"));
    }
    let failed = |what: &str, error: std::io::Error| format!("cannot write {what}: {error}");
    fs::create_dir_all(directory.join("tests")).map_err(|error| failed("tests", error))?;
    fs::write(&test, template.text()).map_err(|error| failed(TEST, error))?;
    let added = manifest::added(&before, template.in_container());
    fs::write(&manifest, before + &added).map_err(|error| failed(MANIFEST, error))?;
    let changed = if added.is_empty() { String::new() } else { format!(", and to {MANIFEST}:\n{added}") };
    Ok(format!("written: {TEST}{changed}\nnext: connect your adapter in {TEST}, then `cargo test --test conformance`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_words(line: &str) -> Result<Option<Template>, String> {
        read(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn cargo_may_give_the_name_of_its_command_first() {
        let one = read_words("conformance new mine").expect("good arguments").expect("a template");
        let other = read_words("new mine").expect("good arguments").expect("a template");
        assert_eq!(one.text(), other.text());
        assert!(!one.in_container());
        let contained = read_words("new mine --port 9 --image mine:1").expect("good arguments").expect("a template");
        assert!(contained.in_container());
        assert!(read_words("conformance --help").expect("help").is_none());
    }

    #[test]
    fn wrong_arguments_are_refused_with_the_reason() {
        for (line, why) in [
            ("old mine", "command"),
            ("new", "name is missing"),
            ("new mine yours", "one name"),
            ("new my-broker", "letters and digits"),
            ("new mine --port x --image y", "a port is a number"),
            ("new mine --image", "needs a value"),
            ("new mine --port 1", "--image"),
            ("new mine --docker", "--docker"),
        ] {
            let refused = read_words(line).expect_err(line);
            assert!(refused.contains(why), "{line}: {refused}");
        }
    }
}

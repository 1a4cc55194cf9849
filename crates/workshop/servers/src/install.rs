//! Gets software: jars by Maven, Go programs from source. Packages from Debian are in `debian.rs`.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Error, Result};
use crate::instance::{Instance, lock};
use crate::requester::Requester;

/// A program that must be on the machine already.
#[derive(Clone, Copy)]
pub(crate) struct Tool {
    pub(crate) program: &'static str,
    /// The text that says how to install it.
    pub(crate) remedy: &'static str,
}

pub(crate) const JAVA: Tool =
    Tool { program: "java", remedy: "install a JDK, 17 or newer (`apt-get install openjdk-17-jdk-headless`)" };
const MAVEN: Tool = Tool { program: "mvn", remedy: "install Apache Maven (`apt-get install maven`)" };
const GO: Tool = Tool { program: "go", remedy: "install Go, 1.24 or newer, and put its bin directory on the PATH" };

impl Tool {
    pub(crate) fn path(&self, instance: &Instance) -> Result<PathBuf> {
        find(self.program).ok_or_else(|| Error::Missing {
            server: instance.name.clone(),
            program: self.program,
            remedy: self.remedy.to_owned(),
        })
    }

    pub(crate) fn command(&self, instance: &Instance) -> Result<Command> {
        Ok(Command::new(self.path(instance)?))
    }

    pub(crate) fn run(&self, instance: &Instance, command: Command) -> Result<()> {
        run(instance, command)
    }
}

/// Finds the program on the PATH.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|directory| directory.join(program)).find(|path| is_executable(path))
}

pub(crate) fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// Runs it to its end. Its output is shown only if it fails.
pub(crate) fn run(requester: &impl Requester, command: Command) -> Result<()> {
    output(requester, command).map(|_| ())
}

/// Runs it to its end, and returns its standard output.
pub(crate) fn output(requester: &impl Requester, mut command: Command) -> Result<String> {
    let server = || requester.name().to_owned();
    let program = || command.get_program().to_string_lossy().into_owned();
    let (shown, program) = (shown(&command), program());
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|source| Error::Spawn { server: server(), program, source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let status = output.status.to_string();
    Err(Error::Command { server: server(), command: shown, status, output: last_lines(&text, 30) })
}

/// The last `count` lines of a text.
pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Runs it, and once more if it fails, since downloads fail now and then.
pub(crate) fn run_over_network(requester: &impl Requester, mut command: impl FnMut() -> Command) -> Result<()> {
    run(requester, command()).or_else(|failure| {
        requester.report(&format!("trying again after: {failure}"));
        run(requester, command())
    })
}

/// Gets the jars that `pom` depends on, into `lib` of the software's directory.
pub(crate) fn jars(instance: &Instance, version: &str, pom: &str) -> Result<()> {
    let directory = instance.software(version);
    let _lock = lock(&directory.with_extension("lock"))?;
    // This file is written last: if it exists and is the same, the jars are complete.
    let complete = directory.join("installed.xml");
    if fs::read_to_string(&complete).is_ok_and(|installed| installed == pom) {
        return Ok(());
    }
    MAVEN.path(instance)?;
    instance.report(&format!("fetching the jars of {version}"));
    if directory.exists() {
        fs::remove_dir_all(&directory).map_err(Error::file("remove", &directory))?;
    }
    crate::instance::create_directory(&directory)?;
    let written = directory.join("pom.xml");
    fs::write(&written, pom).map_err(Error::file("write", &written))?;
    run_over_network(instance, || {
        let mut command = Command::new(MAVEN.program);
        command.current_dir(&directory).args([
            "--batch-mode",
            "--quiet",
            "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies",
            "-DincludeScope=runtime",
            "-DoutputDirectory=lib",
        ]);
        command
    })?;
    fs::write(&complete, pom).map_err(Error::file("write", &complete))
}

/// Builds the program of a Go module in the software's directory.
pub(crate) fn go_program(instance: &Instance, version: &str, program: &str, module: &str) -> Result<()> {
    let directory = instance.software(version);
    let _lock = lock(&directory.with_extension("lock"))?;
    if is_executable(&directory.join(program)) {
        return Ok(());
    }
    GO.path(instance)?;
    instance.report(&format!("building {module}"));
    run_over_network(instance, || {
        let mut command = Command::new(GO.program);
        command.env("GOBIN", &directory).env("GOFLAGS", "").args(["install", module]);
        command
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::Ports;
    use crate::kind::Kind;

    fn instance() -> Instance {
        Instance::new(Kind::Nats, "nats-install".to_owned(), Ports::from(40100))
    }

    #[test]
    fn a_missing_tool_is_named_with_its_remedy() {
        let tool = Tool { program: "no-such-program-anywhere", remedy: "write it" };
        let text = tool.path(&instance()).expect_err("it does not exist").to_string();
        assert!(text.contains("no-such-program-anywhere") && text.contains("write it"), "{text}");
    }

    #[test]
    fn the_end_of_a_text_is_its_last_lines_or_all_of_it() {
        assert_eq!(last_lines("a\nb\nc\n", 2), "b\nc");
        assert_eq!(last_lines("a\n", 2), "a");
        assert_eq!(last_lines("", 2), "");
    }

    #[test]
    fn a_failing_command_shows_what_it_was_and_what_it_wrote() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo told; echo warned >&2; exit 3"]);
        let text = run(&instance(), command).expect_err("it fails").to_string();
        for part in ["sh -c", "told", "warned", "3"] {
            assert!(text.contains(part), "{text} lacks {part}");
        }
    }
}

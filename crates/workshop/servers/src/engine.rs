//! Finds out whether there is a Docker engine that can run our servers.

use std::io::Read;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The time in which an engine must answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether an engine can be used; else the reason why not.
pub(crate) fn answers() -> Result<(), String> {
    let said = ask(&["info", "--format", "{{.OSType}} {{.SecurityOptions}}"])?;
    judge(&said, &ask(&["context", "inspect", "--format", "{{.Endpoints.docker.Host}}"])?)
}

/// `info` describes the engine, `host` is its address.
fn judge(info: &str, host: &str) -> Result<(), String> {
    let system = info.split_whitespace().next().unwrap_or_default();
    if system != "linux" {
        return Err(format!("the engine runs containers of {system:?}, and not of Linux"));
    }
    if !["unix://", "npipe://"].iter().any(|local| host.starts_with(local)) {
        return Err(format!("the engine is on another machine, at {host}"));
    }
    // Files of a container would belong to other users, and we could not remove them.
    match ["name=rootless", "name=userns"].iter().find(|option| info.contains(*option)) {
        Some(option) => Err(format!("the engine gives containers other users than the machine's ({option})")),
        None => Ok(()),
    }
}

/// Returns the output of the engine's command line client.
fn ask(arguments: &[&str]) -> Result<String, String> {
    let shown = || format!("docker {}", arguments.join(" "));
    let mut command = Command::new("docker");
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("cannot start `docker`: {error}"))?;
    let deadline = Instant::now() + REQUEST_TIMEOUT;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(10)),
            outcome => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(outcome.map_or_else(
                    |error| format!("`{}`: {error}", shown()),
                    |_| format!("`{}` does not answer within {} s", shown(), REQUEST_TIMEOUT.as_secs()),
                ));
            }
        }
    };
    // A line or two, which fit into the pipe.
    let mut text = String::new();
    let read = match (status.success(), child.stdout.take(), child.stderr.take()) {
        (true, Some(mut output), _) => output.read_to_string(&mut text),
        (false, _, Some(mut errors)) => errors.read_to_string(&mut text),
        _ => Ok(0),
    };
    read.map_err(|error| format!("`{}`: {error}", shown()))?;
    let text = text.trim().to_owned();
    if status.success() { Ok(text) } else { Err(format!("`{}` failed: {text}", shown())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: &str = "unix:///var/run/docker.sock";

    #[test]
    fn an_engine_of_this_machine_will_do() {
        assert_eq!(judge("linux [name=seccomp,profile=builtin name=cgroupns]", LOCAL), Ok(()));
    }

    #[test]
    fn an_engine_elsewhere_or_of_another_kind_will_not() {
        let refused = |info, host| judge(info, host).expect_err("it would not work");
        assert!(refused("linux []", "tcp://build:2376").contains("tcp://build:2376"));
        assert!(refused("windows []", LOCAL).contains("windows"));
        assert!(refused("linux [name=seccomp name=rootless]", LOCAL).contains("rootless"));
        assert!(refused("", LOCAL).contains("not of Linux"));
    }
}

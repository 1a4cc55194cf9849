use std::fs::File;
use std::io::{Read, Seek};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use partitura_servers::Kind;
use serde::{Deserialize, Serialize};

use crate::problem::Problem;

/// Draining has a limit of 10 s; a process that takes longer than this is stuck.
const FAREWELL: Duration = Duration::from_secs(60);
/// A process younger than this may not listen to signals yet, and would end as any program does.
const YOUTH: Duration = Duration::from_secs(2);

/// The last line of the client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) orders: usize,
    pub(crate) completed: usize,
    pub(crate) compensated: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
    pub(crate) lost: usize,
    pub(crate) per_s: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) reconciled: bool,
}

/// The example, built with what it needs to reach this broker.
#[derive(Debug)]
pub(crate) struct Program(PathBuf);

impl Program {
    /// `cargo test --test scenarios` builds no examples, so this does, in the profile of this test; unless
    /// `PARTITURA_SCENARIO_PROGRAM` says where there is one.
    pub(crate) fn build(broker: Option<Kind>) -> Result<Self, Problem> {
        if let Some(program) = std::env::var_os("PARTITURA_SCENARIO_PROGRAM") {
            return Ok(Self(program.into()));
        }
        // As this test was built, where somebody says how, so that nothing is built anew for it.
        let selection = std::env::var("PARTITURA_SCENARIO_BUILD").unwrap_or_else(|_| {
            let features = broker.into_iter().map(Kind::name).chain(["postgres"]).collect::<Vec<_>>();
            format!("--package=partitura --features={}", features.join(","))
        });
        let profile: &[&str] = if cfg!(debug_assertions) { &[] } else { &["--release"] };
        let mut cargo = Command::new(env!("CARGO"));
        // Cargo's variables about the package of this test would have build scripts that look at them run again.
        for (name, _) in std::env::vars_os() {
            if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|told| name.to_string_lossy().starts_with(told)) {
                cargo.env_remove(name);
            }
        }
        cargo.args(["build", "--example", "checkout"]).args(selection.split_whitespace()).args(profile);
        let status = cargo.status()?;
        if !status.success() {
            return Err(format!("the example was not built: {status}").into());
        }
        let test = std::env::current_exe()?;
        let target = test.ancestors().nth(2).ok_or("target/<profile>/deps/<test>")?;
        Ok(Self(target.join("examples").join(format!("checkout{}", std::env::consts::EXE_SUFFIX))))
    }

    /// This one: it is a worker, too.
    pub(crate) fn this() -> Result<Self, Problem> {
        Ok(Self(std::env::current_exe()?))
    }

    pub(crate) fn start(&self, name: &'static str, arguments: &[String]) -> Result<Process, Problem> {
        // Files, unlike pipes, do not make anybody wait who writes much.
        let (out, err) = (tempfile::tempfile()?, tempfile::tempfile()?);
        let child = Command::new(&self.0)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(err.try_clone()?)
            .spawn()?;
        Ok(Process { name, child, since: Instant::now(), out, err })
    }
}

/// A process of the example. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    since: Instant,
    out: File,
    err: File,
}

impl Process {
    pub(crate) fn kill(&mut self) -> Result<(), Problem> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>, Problem> {
        Ok(self.child.try_wait()?)
    }

    /// Asks it to end, and waits until it did, well.
    pub(crate) fn stop(self) -> Result<(), Problem> {
        self.stop_within(FAREWELL)
    }

    /// As [`stop`](Self::stop), with another limit.
    pub(crate) fn stop_within(mut self, limit: Duration) -> Result<(), Problem> {
        let name = self.name;
        thread::sleep(YOUTH.saturating_sub(self.since.elapsed()));
        let asked = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        let begun = Instant::now();
        loop {
            match self.ended()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(format!("{} ended with {status}:\n{}", name, self.said()).into()),
                None if begun.elapsed() > limit => {
                    return Err(format!("{}, asked to end ({asked}), did not:\n{}", name, self.said()).into());
                }
                None => thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// The last line on stdout.
    pub(crate) fn figures(&mut self) -> Result<Figures, Problem> {
        let out = text(&mut self.out)?;
        let last = out.lines().last().unwrap_or_default();
        serde_json::from_str(last).map_err(|error| format!("{last:?}: {error}\n{}", self.said()).into())
    }

    /// The end of what it said on stderr.
    pub(crate) fn said(&mut self) -> String {
        let said = text(&mut self.err).unwrap_or_else(|error| error.to_string());
        let lines: Vec<&str> = said.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.kill();
    }
}

fn text(file: &mut File) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

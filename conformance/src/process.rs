//! Other processes that run a part of a case, and are killed.

use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinHandle;

use crate::history::{Entry, Record};
use crate::{Env, Recorder, Stop};

/// The environment variable that makes this process a part of a case: see [`Role`](crate::role::Role).
pub(crate) const ROLE: &str = "PARTITURA_CONFORMANCE_PART";

impl Env {
    /// Starts another process that runs `part` of this case.
    pub(crate) async fn start(&self, part: &str) -> Result<Part, Stop> {
        let number = self.processes.fetch_add(1, Ordering::Relaxed) + 1;
        Part::start(self, part, number).await
    }

    /// Kills the broker (kill -9) and starts it again. If it lives in its client, that is `part`. Otherwise `part` is
    /// killed with it, so that its pending work does not interfere.
    pub(crate) async fn kill_broker(&self, part: Part) -> Result<(), Stop> {
        if let Some(restart) = self.harness.restart() {
            restart.kill().await?;
            part.kill().await?;
            restart.start().await?;
            return Ok(());
        }
        part.kill().await
    }
}

/// A running process.
#[derive(Debug)]
pub(crate) struct Part {
    child: Child,
    /// Its input. The process ends when this is closed, which waiting for the process would do.
    _input: Option<ChildStdin>,
    /// Kills the process while it is frozen, if this one dies.
    watch: Mutex<Option<Child>>,
    number: u32,
    reader: JoinHandle<()>,
    recorder: Recorder,
}

impl Part {
    /// Starts this binary again, to run `part`.
    async fn start(env: &Env, part: &str, number: u32) -> Result<Self, Stop> {
        let Some(processes) = env.harness.processes() else {
            return Err("the case starts a process and does not say that it needs to".into());
        };
        let (broker, variant) = (env.harness.broker(), env.harness.variant());
        let role = [
            broker,
            variant,
            env.case,
            part,
            &env.namespace,
            &number.to_string(),
            &env.recorder.origin().to_string(),
            env.subject.mutant.unwrap_or_default(),
            &env.seed.to_string(),
        ];
        let mut child = Command::new(std::env::current_exe()?)
            .env(ROLE, role.join("\n"))
            .envs(processes.environment())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let recorder = env.recorder.clone();
        let mut lines = BufReader::new(child.stdout.take().ok_or("the process has no output")?).lines();
        let reader = tokio::spawn(async move {
            // The last line of a killed process may be half a line.
            while let Ok(Some(line)) = lines.next_line().await {
                match serde_json::from_str::<Entry>(&line) {
                    Ok(entry) => recorder.take_up(entry),
                    Err(_) => break,
                }
            }
        });
        let (input, watch) = (child.stdin.take(), Mutex::default());
        Ok(Self { _input: input, child, watch, number, reader, recorder: env.recorder.clone() })
    }

    /// Stops the process where it is: its connections stay open, and it says nothing.
    pub(crate) async fn freeze(&self) -> Result<(), Stop> {
        // A frozen process does not notice that its input is closed.
        let watch = self.child.id().map(watch).transpose()?;
        *self.watch.lock().unwrap_or_else(PoisonError::into_inner) = watch;
        self.signal("STOP").await?;
        self.recorder.note_of(self.number, Record::Frozen);
        Ok(())
    }

    /// Lets a frozen process go on.
    pub(crate) async fn thaw(&self) -> Result<(), Stop> {
        self.recorder.note_of(self.number, Record::Thawed);
        self.signal("CONT").await?;
        *self.watch.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }

    /// By the shell's own `kill`, since the program of that name is not on every machine.
    async fn signal(&self, name: &str) -> Result<(), Stop> {
        let number = self.child.id().ok_or("the process has ended")?;
        let status = Command::new("sh").args(["-c", &format!("kill -{name} {number}")]).status().await?;
        if status.success() { Ok(()) } else { Err(format!("SIG{name} did not reach the process: {status}").into()) }
    }

    /// Kills the process (SIGKILL), and reads the rest of its entries.
    pub(crate) async fn kill(mut self) -> Result<(), Stop> {
        self.child.start_kill()?;
        self.ended().await
    }

    /// Waits until the process has ended, and reads the rest of its entries.
    pub(crate) async fn ended(&mut self) -> Result<(), Stop> {
        self.child.wait().await?;
        (&mut self.reader).await.map_err(|error| error.to_string())?;
        // The death is noted after all entries of the process, since it has done what they say.
        self.recorder.note_of(self.number, Record::Killed);
        Ok(())
    }
}

/// Starts a shell that kills a process when its own input is closed: when this process has died. The shell ends when it
/// is dropped.
fn watch(number: u32) -> std::io::Result<Child> {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("read _; kill -KILL {number}")]);
    shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const KILL: i32 = 9;

    #[tokio::test]
    async fn a_frozen_process_is_killed_when_the_one_that_froze_it_is_gone() -> Result<(), Stop> {
        let mut frozen = Command::new("sh").args(["-c", "kill -STOP $$; exit 0"]).kill_on_drop(true).spawn()?;
        let mut watching = watch(frozen.id().ok_or("it has ended")?)?;
        drop(watching.stdin.take());
        let ended = timeout(Duration::from_secs(30), frozen.wait()).await.map_err(|_| "it was not killed")??;
        assert_eq!(ended.signal(), Some(KILL), "{ended}");
        Ok(())
    }
}

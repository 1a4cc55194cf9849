//! Processes that outlive us: started, found again, ended.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::instance::{Instance, create_directory};

/// The command that starts a program, with all paths as the program sees them. The command of a server must become the
/// server by `exec`, since its process is killed.
pub(crate) struct Launch {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) environment: Vec<(&'static str, OsString)>,
    /// The user and group as whom it runs, if not our own.
    pub(crate) user: Option<(u32, u32)>,
}

impl Launch {
    /// On this machine.
    pub(crate) fn command(self) -> Command {
        let mut command = Command::new(self.program);
        command.args(self.arguments).envs(self.environment);
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group).current_dir("/");
        }
        command
    }
}

/// A process. The moment at which it began distinguishes it from a later process with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// In ticks since the machine started.
    begun: u64,
}

impl Process {
    /// The file of an instance that names its process.
    pub(crate) const NOTE: &str = "pid";

    /// Starts the server in a process group of its own, so that it survives us, and notes its process in the file
    /// `pid`.
    pub(crate) fn launch(instance: &Instance, launch: Launch) -> Result<Self> {
        create_directory(&instance.directory())?;
        let log = instance.log();
        if log.exists() {
            let previous = instance.path("log.previous");
            fs::rename(&log, &previous).map_err(Error::file("rename", &log))?;
        }
        let output = File::create(&log).map_err(Error::file("create", &log))?;
        let errors = output.try_clone().map_err(Error::file("open", &log))?;
        let program = launch.program.display().to_string();
        let mut command = launch.command();
        command.process_group(0);
        // Not a session of its own: Linux shares the processors out among sessions first (`sched_autogroup_enabled`),
        // and on a busy machine a server alone in its session was seen to get one second in 150.
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        let spawned = command.spawn();
        let mut child = spawned.map_err(|source| Error::Spawn { server: instance.name.clone(), program, source })?;
        let process = Self { pid: child.id(), begun: stat(child.id()).map_or(0, |stat| stat.begun) };
        // After its end its parent must wait for it, or it stays a zombie for as long as we live.
        thread::spawn(move || child.wait());
        instance.write(Self::NOTE, &format!("{} {}\n", process.pid, process.begun))?;
        Ok(process)
    }

    /// Returns the noted process, if it still runs.
    pub(crate) fn find(instance: &Instance) -> Option<Self> {
        let noted = fs::read_to_string(instance.path(Self::NOTE)).ok()?;
        Self::parse(&noted).filter(|process| process.is_alive())
    }

    fn parse(noted: &str) -> Option<Self> {
        let (pid, begun) = noted.trim().split_once(' ')?;
        Some(Self { pid: pid.parse().ok()?, begun: begun.parse().ok()? })
    }

    pub(crate) fn is_alive(self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.begun == self.begun && !stat.has_ended)
    }

    /// Sends SIGKILL to it, and to its children that do not end by themselves then. Returns when all of them are gone.
    pub(crate) fn kill(self, instance: &Instance) -> Result<()> {
        let descendants = self.descendants();
        signal(instance, "KILL", self.pid)?;
        self.await_end(instance, Duration::from_secs(30))?;
        self.await_number(Duration::from_secs(5));
        for child in descendants {
            if child.await_end(instance, Duration::from_secs(5)).is_err() {
                signal(instance, "KILL", child.pid)?;
                child.await_end(instance, Duration::from_secs(30))?;
            }
        }
        Ok(())
    }

    /// Stops it and its children where they are. The parent comes first, so that it starts no more children.
    pub(crate) fn freeze(self, instance: &Instance) -> Result<()> {
        signal(instance, "STOP", self.pid)?;
        self.descendants().into_iter().try_for_each(|child| signal(instance, "STOP", child.pid))
    }

    /// Lets it and its children go on.
    pub(crate) fn thaw(self, instance: &Instance) -> Result<()> {
        self.descendants().into_iter().try_for_each(|child| signal(instance, "CONT", child.pid))?;
        signal(instance, "CONT", self.pid)
    }

    /// Asks it to end, and kills it if it has not ended after `time_limit`.
    pub(crate) fn stop(self, instance: &Instance, name: &str, time_limit: Duration) -> Result<()> {
        signal(instance, name, self.pid)?;
        match self.await_end(instance, time_limit) {
            Ok(()) => Ok(()),
            Err(_) => {
                instance.report(&format!("does not end by itself after {} s: killing it", time_limit.as_secs()));
                self.kill(instance)
            }
        }
    }

    fn await_end(self, instance: &Instance, time_limit: Duration) -> Result<()> {
        let deadline = Instant::now() + time_limit;
        while self.is_alive() {
            if Instant::now() > deadline {
                return Err(Error::Immortal { server: instance.name.clone(), pid: self.pid });
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Waits until its number is free, that is until its parent has waited for it. Until then Postgres, whose lock file
    /// holds that number, believes that it runs. Gives up if the parent never waits.
    fn await_number(self, time_limit: Duration) {
        let deadline = Instant::now() + time_limit;
        while stat(self.pid).is_some_and(|stat| stat.begun == self.begun) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn descendants(self) -> Vec<Self> {
        let mut children: BTreeMap<u32, Vec<Self>> = BTreeMap::new();
        for pid in pids() {
            if let Some(stat) = stat(pid) {
                children.entry(stat.parent).or_default().push(Self { pid, begun: stat.begun });
            }
        }
        let mut found = children.remove(&self.pid).unwrap_or_default();
        let mut next = 0;
        while let Some(process) = found.get(next) {
            let below = children.remove(&process.pid).unwrap_or_default();
            found.extend(below);
            next += 1;
        }
        found
    }
}

fn pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn signal(instance: &Instance, name: &str, pid: u32) -> Result<()> {
    // Uses the shell's own `kill`, because the program of that name is not on every machine. It is no failure if the
    // process has ended meanwhile.
    let status = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).stderr(Stdio::null()).status();
    match status {
        Ok(_) => Ok(()),
        Err(source) => Err(Error::Spawn { server: instance.name.clone(), program: "sh".to_owned(), source }),
    }
}

struct Stat {
    /// A zombie: its parent has not waited for it yet, but it has ended.
    has_ended: bool,
    parent: u32,
    begun: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?)
}

/// See proc_pid_stat(5). The second field is the program's name in parentheses, and may contain any character.
fn parse_stat(line: &str) -> Option<Stat> {
    let fields: Vec<&str> = line.rsplit_once(')')?.1.split_whitespace().collect();
    let (state, parent, threads, begun) = (fields.first()?, fields.get(1)?, fields.get(17)?, fields.get(19)?);
    // The first thread may be a zombie while others still hold the ports.
    let has_ended = matches!(*state, "Z" | "X") && matches!(*threads, "0" | "1");
    Some(Stat { has_ended, parent: parent.parse().ok()?, begun: begun.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_by_its_number_and_its_beginning() {
        let own = std::process::id();
        let begun = stat(own).expect("this process runs").begun;
        assert!(Process { pid: own, begun }.is_alive());
        assert!(!Process { pid: own, begun: begun + 1 }.is_alive(), "a later process with the same number is another");
    }

    #[test]
    fn what_was_noted_is_read_again_and_nonsense_is_not() {
        assert_eq!(Process::parse("12 345\n"), Some(Process { pid: 12, begun: 345 }));
        assert_eq!(Process::parse("12\n"), None);
        assert_eq!(Process::parse(""), None);
    }

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let line = |threads| format!("12 (a) (b c) Z 7 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 {threads} 0 4711 0");
        let stat = parse_stat(&line(1)).expect("well formed");
        assert_eq!((stat.parent, stat.begun, stat.has_ended), (7, 4711, true));
        assert!(!parse_stat(&line(2)).expect("well formed").has_ended, "a thread of it goes on");
    }

    #[test]
    fn a_child_is_among_the_descendants() {
        let own = std::process::id();
        let mut child = Command::new("sleep").arg("60").spawn().expect("sleep starts");
        let process = Process { pid: own, begun: stat(own).expect("this process runs").begun };
        let found = process.descendants().iter().any(|descendant| descendant.pid == child.id());
        child.kill().expect("the child is ours");
        child.wait().expect("the child is ours");
        assert!(found);
    }
}

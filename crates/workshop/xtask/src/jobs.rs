//! Test programs, several at a time: most of them wait for brokers and clocks most of the time.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use cargo_metadata::Artifact;

use crate::cargo::{cargo, executables};
use crate::failure::Failure;
use crate::failures;

/// The directory of what each program prints, for as long as it runs and afterwards.
pub(crate) const OUTPUT: &str = "target/test-output";

/// A command to run beside others.
pub(crate) struct Job {
    /// The name by which people know it, without spaces.
    name: String,
    command: Command,
}

impl Job {
    /// A test program that cargo has built. It runs as cargo would run it.
    pub(crate) fn program(artifact: &Artifact) -> Option<Self> {
        let directory = artifact.manifest_path.parent()?;
        let package = artifact.package_id.repr.rsplit(['#', '/']).next()?;
        let package = package.split('@').next().unwrap_or(package);
        let mut command = Command::new(artifact.executable.as_ref()?);
        command.current_dir(directory).env("CARGO_MANIFEST_DIR", directory).env("CARGO_PKG_NAME", package);
        // Trials panic on purpose. In a debug build a trace takes seconds, and hides the message of a real failure.
        command.env("RUST_BACKTRACE", "0");
        let of = directory.file_name().unwrap_or(package);
        let target = &artifact.target;
        let name = match () {
            () if target.is_test() => target.name.clone(),
            () if target.is_bin() => format!("{}-unit", target.name),
            () => "unit".to_owned(),
        };
        Some(Self { name: format!("{of}-{name}"), command })
    }

    /// The examples in the documentation of what `arguments` of cargo select.
    ///
    /// `cargo test --doc` would choose other features of the dependencies, and build everything again for five minutes.
    /// So this is `cargo test`, and [`only_documentation`] leaves the programs out.
    pub(crate) fn documentation(arguments: &[&str]) -> Result<Self, Failure> {
        let this = std::env::current_exe()?;
        let mut command = cargo();
        command.arg("test").args(arguments).arg("--config");
        command.arg(format!("target.'cfg(all())'.runner = [{:?}, {ONLY_DOCUMENTATION:?}]", this.display().to_string()));
        Ok(Self { name: "documentation".to_owned(), command })
    }

    /// Whether it is the suite of a broker. These take the longest.
    pub(crate) fn is_suite(&self) -> bool {
        self.name.ends_with("-conformance")
    }

    /// The adapter whose standing server it uses, if another program does, too. Suites kill and freeze their server.
    fn server(&self) -> Option<&str> {
        ["-conformance", "-it"].iter().find_map(|use_of_it| self.name.strip_suffix(use_of_it))
    }

    /// Sets a variable of the environment, and adds its value to the name.
    pub(crate) fn on(mut self, variable: &str, value: &str) -> Self {
        self.name = format!("{}-{value}", self.name);
        self.command.env(variable, value);
        self
    }
}

/// The command by which cargo starts programs in [`Job::documentation`].
pub(crate) const ONLY_DOCUMENTATION: &str = "only-documentation";

/// A program, and its arguments.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    program: Vec<String>,
}

/// Runs the program, unless it is one that cargo has built: rustdoc builds its own elsewhere.
pub(crate) fn only_documentation(arguments: &Arguments) -> Result<(), Failure> {
    let Some((program, arguments)) = arguments.program.split_first() else { return Ok(()) };
    if Path::new(program).parent().is_some_and(|directory| directory.ends_with("deps")) {
        return Ok(());
    }
    let status = Command::new(program).args(arguments).status()?;
    if status.success() { Ok(()) } else { Err(format!("{program} ended with {status}").into()) }
}

/// Builds the tests that `arguments` of cargo select.
pub(crate) fn build(arguments: &[&str]) -> Result<Vec<Artifact>, Failure> {
    let arguments: Vec<_> = ["test", "--no-run"].iter().chain(arguments).map(ToString::to_string).collect();
    println!("$ cargo {}", arguments.join(" "));
    Ok(executables(&arguments)?.into_iter().filter(|artifact| artifact.profile.test).collect())
}

/// Runs all jobs, some at a time, and shows what each has printed once it has ended. Fails if one of them has failed.
pub(crate) fn run(jobs: Vec<Job>, output: &Path) -> Result<(), Failure> {
    fs::create_dir_all(output)?;
    let count = jobs.len();
    let at_a_time = thread::available_parallelism().map_or(2, usize::from).max(2);
    println!("{count} programs, {at_a_time} at a time; what they print: {}", output.display());
    let waiting = Waiting::new(jobs);
    let failed = Mutex::new(Vec::new());
    let work = || {
        while let Some(job) = waiting.next() {
            let (name, server) = (job.name.clone(), job.server().map(str::to_owned));
            let result = perform(job, output);
            waiting.ended(server.as_deref());
            if let Err(failure) = result
                && let Ok(mut failed) = failed.lock()
            {
                failed.push(format!("{name} {failure}"));
            }
        }
    };
    thread::scope(|scope| (0..at_a_time).for_each(|_| drop(scope.spawn(work))));
    let failed = failed.into_inner().unwrap_or_default();
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\n    ").into()) }
}

/// Jobs that have not begun.
struct Waiting {
    state: Mutex<State>,
    ended: Condvar,
}

struct State {
    jobs: Vec<Job>,
    /// The servers that running jobs use.
    used: Vec<String>,
}

impl Waiting {
    fn new(jobs: Vec<Job>) -> Self {
        Self { state: Mutex::new(State { jobs, used: Vec::new() }), ended: Condvar::new() }
    }

    /// The first job whose server no other job uses. Waits for one, and returns `None` when all have begun.
    fn next(&self) -> Option<Job> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if state.jobs.is_empty() {
                return None;
            }
            let State { jobs, used } = &mut *state;
            let is_free = |job: &Job| job.server().is_none_or(|server| used.iter().all(|used| used != server));
            if let Some(first) = jobs.iter().position(is_free) {
                let job = jobs.remove(first);
                used.extend(job.server().map(str::to_owned));
                return Some(job);
            }
            state = self.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Notes that no job uses this server any more.
    fn ended(&self, server: Option<&str>) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).used.retain(|used| Some(used.as_str()) != server);
        self.ended.notify_all();
    }
}

fn perform(Job { name, mut command }: Job, output: &Path) -> Result<(), String> {
    let path = output.join(format!("{name}.log"));
    let began = Instant::now();
    let ended = into_file(&mut command, &path);
    show(&name, &path, began);
    match ended {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("ended with {status}{}", failures::named_in(&path))),
        Err(problem) => Err(problem.to_string()),
    }
}

fn into_file(command: &mut Command, path: &PathBuf) -> std::io::Result<ExitStatus> {
    let output = File::create(path)?;
    command.stdin(Stdio::null()).stderr(output.try_clone()?).stdout(output).status()
}

/// Prints the output of a program as a whole: nothing of another comes between.
fn show(name: &str, path: &Path, began: Instant) {
    let text = fs::read(path).unwrap_or_default();
    let mut stdout = std::io::stdout().lock();
    let written =
        writeln!(stdout, "\n── {name}, {:.1} s", began.elapsed().as_secs_f64()).and_then(|()| stdout.write_all(&text));
    // Nobody is there to read it.
    drop(written);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(name: &str, script: &str) -> Job {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Job { name: name.to_owned(), command }
    }

    #[test]
    fn a_failure_is_named_and_the_others_run() {
        let output = std::env::temp_dir().join(format!("xtask-jobs-{}", std::process::id()));
        let file = output.join("lines");
        let mut jobs = vec![shell("well", "true"), shell("broken", "echo why; exit 3")];
        jobs.extend((0..8).map(|number| shell(&format!("touch-{number}"), &format!("echo >> {}", file.display()))));
        let failure = run(jobs, &output).expect_err("one is broken").to_string();
        assert!(failure.starts_with("broken ") && failure.contains('3'), "{failure}");
        assert_eq!(fs::read_to_string(&file).expect("it was written").lines().count(), 8);
        assert_eq!(fs::read_to_string(output.join("broken.log")).expect("it is kept"), "why\n");
        fs::remove_dir_all(output).expect("it is there");
    }

    #[test]
    fn two_programs_do_not_use_the_server_of_one_adapter_at_the_same_time() {
        let waiting = Waiting::new(
            ["nats-conformance", "nats-it", "nats-unit", "kafka-it"].map(|name| shell(name, "true")).into(),
        );
        let next = || waiting.next().expect("one is free").name;
        assert_eq!([next(), next(), next()], ["nats-conformance", "nats-unit", "kafka-it"]);
        waiting.ended(Some("nats"));
        assert_eq!(next(), "nats-it");
        assert!(waiting.next().is_none());
    }

    #[test]
    fn a_variable_is_part_of_the_name() {
        assert_eq!(shell("engine", "true").on("PARTITURA_BROKERS", "nats").name, "engine-nats");
    }
}

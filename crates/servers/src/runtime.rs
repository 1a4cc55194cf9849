//! Where servers run: as processes of this machine, or in containers. This is the seam between what a server is, which
//! [`Software`](crate::software::Software) knows, and how it is carried out.

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::docker::Docker;
use crate::error::{Error, Result};
use crate::instance::Instance;
use crate::native::Native;
use crate::process::Launch;

/// The environment variable that says where servers run, against what is found here.
pub(crate) const CHOICE: &str = "PARTITURA_SERVERS";

/// One way to carry servers out. All calls are for an instance whose lock is held, save the questions `find`, `version` and
/// `log`.
pub(crate) trait Runtime: Sync {
    /// What [`CHOICE`] calls it.
    fn name(&self) -> &'static str;

    /// The file in an instance's directory that says that its data was begun this way.
    fn mark(&self) -> &'static str;

    /// The instance's directory, as its server sees it.
    fn directory(&self, instance: &Instance) -> PathBuf;

    /// The address on which its server listens. Clients reach it at 127.0.0.1 in any case.
    fn listen(&self) -> &'static str;

    /// Gets the software, if it is not there.
    fn install(&self, instance: &Instance) -> Result<()>;

    /// Where the software's programs are (its jars, if it runs on a JVM), as the server sees them.
    fn home(&self, instance: &Instance) -> Result<PathBuf>;

    /// The version that would run. None if it is not installed.
    fn version(&self, instance: &Instance) -> Option<String>;

    /// Runs a program that prepares something to its end. What it wrote is shown only if it fails.
    fn run(&self, instance: &Instance, tool: Launch) -> Result<()>;

    /// That nobody else listens where the server would: the error tells more than the server's own log.
    fn expect_free_port(&self, instance: &Instance) -> Result<()> {
        instance.expect_free_port()
    }

    /// Starts the server, so that it outlives us, and gives its process.
    fn start(&self, instance: &Instance, launch: Launch) -> Result<u32>;

    /// The server's process, if it runs.
    fn find(&self, instance: &Instance) -> Option<u32>;

    /// What it wrote since it was last started.
    fn log(&self, instance: &Instance) -> String;

    /// Writes down in [`Instance::log`] what it wrote last, if it is not there already, for a person to read.
    fn keep_log(&self, instance: &Instance);

    /// Ends it by SIGKILL. Returns when all of its processes are gone.
    fn kill(&self, instance: &Instance) -> Result<()>;

    /// Ends it in good order, or by SIGKILL after `patience`. Does nothing if it does not run.
    fn stop(&self, instance: &Instance, patience: Duration) -> Result<()>;

    /// Removes what a stopped server leaves outside the instance's directory; `wipe` if its data goes too.
    fn clean(&self, instance: &Instance, wipe: bool) -> Result<()>;
}

const ALL: [&dyn Runtime; 2] = [&Native, &Docker];

/// Where this instance was begun: there its data can be used, and there it runs if it runs.
pub(crate) fn begun(directory: &Path) -> Option<&'static dyn Runtime> {
    ALL.into_iter().find(|runtime| directory.join(runtime.mark()).exists())
}

/// Where this instance is to run: where it was begun; else as [`CHOICE`] says; else in a container if an engine answers.
pub(crate) fn of(instance: &Instance) -> Result<&'static dyn Runtime> {
    let choice = env::var_os(CHOICE).map(|choice| choice.to_string_lossy().into_owned());
    decide(instance, begun(&instance.directory()), choice.as_deref(), Docker::answers)
}

fn decide(
    instance: &Instance,
    begun: Option<&'static dyn Runtime>,
    choice: Option<&str>,
    docker: impl FnOnce() -> std::result::Result<(), String>,
) -> Result<&'static dyn Runtime> {
    let chosen = match choice {
        None | Some("") => None,
        Some(name) => {
            let known = ALL.into_iter().find(|runtime| runtime.name() == name);
            Some(known.ok_or_else(|| Error::UnknownChoice { choice: name.to_owned() })?)
        }
    };
    let server = || instance.name.clone();
    match (begun, chosen) {
        (Some(begun), Some(chosen)) if begun.name() != chosen.name() => {
            Err(Error::BegunElsewhere { server: server(), begun: begun.name(), chosen: chosen.name() })
        }
        (Some(begun), _) => Ok(begun),
        (None, Some(chosen)) if chosen.name() == Docker.name() => match docker() {
            Ok(()) => Ok(chosen),
            Err(reason) => Err(Error::NoEngine { server: server(), reason }),
        },
        (None, Some(chosen)) => Ok(chosen),
        (None, None) => Ok(if docker().is_ok() { &Docker } else { &Native }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::Ports;
    use crate::kind::Kind;

    fn decided(
        begun: Option<&'static dyn Runtime>,
        choice: Option<&str>,
        engine: std::result::Result<(), String>,
    ) -> std::result::Result<&'static str, String> {
        let instance = Instance::new(Kind::Nats, "nats-decide".to_owned(), Ports::from(100));
        decide(&instance, begun, choice, || engine).map(Runtime::name).map_err(|error| error.to_string())
    }

    fn dead() -> std::result::Result<(), String> {
        Err("nobody there".to_owned())
    }

    #[test]
    fn an_engine_that_answers_is_used_unless_the_environment_says_otherwise() {
        assert_eq!(decided(None, None, Ok(())), Ok("docker"));
        assert_eq!(decided(None, None, dead()), Ok("native"));
        assert_eq!(decided(None, Some(""), dead()), Ok("native"));
        assert_eq!(decided(None, Some("native"), Ok(())), Ok("native"));
        assert_eq!(decided(None, Some("docker"), Ok(())), Ok("docker"));
    }

    #[test]
    fn what_was_begun_stays_where_its_data_is() {
        assert_eq!(decided(Some(&Native), None, Ok(())), Ok("native"));
        assert_eq!(decided(Some(&Docker), None, dead()), Ok("docker"));
        let refusal = decided(Some(&Native), Some("docker"), Ok(())).expect_err("the data is of another server");
        for part in ["nats-decide", "native", "docker", "--wipe"] {
            assert!(refusal.contains(part), "{refusal} lacks {part}");
        }
    }

    #[test]
    fn an_engine_that_does_not_answer_and_a_word_that_means_nothing_are_said() {
        let refusal = decided(None, Some("docker"), dead()).expect_err("no engine answers");
        assert!(refusal.contains("nobody there") && refusal.contains("native"), "{refusal}");
        let refusal = decided(None, Some("podman"), Ok(())).expect_err("there is no such way");
        assert!(refusal.contains("podman") && refusal.contains(CHOICE), "{refusal}");
    }
}

//! The choice of the way in which an instance runs.

use std::env;
use std::path::Path;

use crate::deployment::Deployment;
use crate::docker::Docker;
use crate::error::{Error, Result};
use crate::instance::Instance;
use crate::native::Native;
use crate::runtime::{CHOICE, Runtime};

const ALL: [&dyn Runtime; 2] = [&Native, &Docker];

impl Deployment {
    /// Returns the instance in the way in which it runs, or is to run.
    pub(crate) fn to_run(instance: &Instance) -> Result<Self> {
        Ok(Self { instance: instance.clone(), runtime: choose(instance)? })
    }

    /// Returns the instance in the way in which it was begun: to look at it, or to end it.
    pub(crate) fn as_begun(instance: &Instance) -> Self {
        let runtime = begun(&instance.directory()).or_else(|| choose(instance).ok()).unwrap_or(&Native);
        Self { instance: instance.clone(), runtime }
    }
}

/// The way in which this instance was begun. Its data can be used only in that way, and if it runs, it runs in that
/// way.
fn begun(directory: &Path) -> Option<&'static dyn Runtime> {
    ALL.into_iter().find(|runtime| directory.join(runtime.mark()).exists())
}

/// The way in which this instance is to run: the way in which it was begun; else the way that [`CHOICE`] names; else a
/// container if an engine answers.
fn choose(instance: &Instance) -> Result<&'static dyn Runtime> {
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

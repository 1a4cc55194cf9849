//! Calls cargo in a way that builds nothing twice.

use std::collections::HashMap;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cargo_metadata::{Artifact, Message};

use crate::brokers::install_build_tools;
use crate::failure::Failure;

/// The directory of the adapters' packages; each has the name of its broker.
pub(crate) const ADAPTERS: &str = "adapters";

/// Servers whose adapter has another name, since it is for several kinds of them.
const SHARED: &[(&str, &str)] = &[("artemis", "amqp")];

/// The adapter for a server, which is also the facade's feature.
pub(crate) fn adapter(server: &str) -> &str {
    SHARED.iter().find(|(name, _)| *name == server).map_or(server, |(_, adapter)| adapter)
}

/// The server on which an adapter is tried.
pub(crate) fn server_of(adapter: &str) -> &str {
    SHARED.iter().find(|(_, name)| *name == adapter).map_or(adapter, |(server, _)| server)
}

/// Returns the command cargo, as in a shell. The variables that cargo has set for this program's package are removed
/// from the environment. Otherwise build scripts that read them (ring's) would run again, and every crate that depends
/// on them would be built again.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    for (name, _) in std::env::vars_os() {
        let is_told = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
        if name.to_str().is_some_and(is_told) {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// Builds the targets of these brokers' adapters that `arguments` select. Returns the executables by the name of the
/// broker.
///
/// Cargo is called once for all of them. For each adapter alone it would choose other features of the dependencies, and
/// build those again.
pub(crate) fn build<'a>(
    brokers: impl IntoIterator<Item = &'a str>,
    arguments: &[String],
) -> Result<HashMap<String, PathBuf>, Failure> {
    let brokers: Vec<_> = brokers.into_iter().collect();
    install_build_tools(brokers.iter().copied())?;
    let packages = brokers.iter().map(|broker| format!("--package=partitura-{broker}"));
    let arguments: Vec<_> = arguments.iter().cloned().chain(packages).chain(["--locked".to_owned()]).collect();
    Ok(executables(&arguments)?.into_iter().filter_map(executable).collect())
}

/// Builds, and returns every target of which there is an executable.
pub(crate) fn executables(arguments: &[String]) -> Result<Vec<Artifact>, Failure> {
    let mut cargo = cargo()
        .args(arguments)
        .arg("--message-format=json-render-diagnostics")
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start cargo: {error}"))?;
    let mut artifacts = Vec::new();
    if let Some(messages) = cargo.stdout.take() {
        for message in Message::parse_stream(BufReader::new(messages)) {
            if let Message::CompilerArtifact(artifact) = message?
                && artifact.executable.is_some()
            {
                artifacts.push(artifact);
            }
        }
    }
    let status = cargo.wait()?;
    if status.success() { Ok(artifacts) } else { Err(format!("cargo {}: {status}", arguments.join(" ")).into()) }
}

/// An adapter's executable, and the name of its broker.
fn executable(artifact: Artifact) -> Option<(String, PathBuf)> {
    let directory = artifact.manifest_path.parent()?;
    let is_of_adapter = directory.parent().and_then(|parent| parent.file_name()) == Some(ADAPTERS);
    let is_wanted = is_of_adapter && (artifact.target.is_test() || artifact.target.is_example());
    let broker = directory.file_name().filter(|_| is_wanted)?.to_owned();
    Some((broker, artifact.executable?.into()))
}

/// The directory of a broker's adapter, where cargo runs its tests.
pub(crate) fn directory(broker: &str) -> PathBuf {
    Path::new(ADAPTERS).join(broker)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_and_its_adapter_may_have_different_names() {
        assert_eq!((adapter("artemis"), server_of("amqp")), ("amqp", "artemis"));
        assert_eq!((adapter("other"), server_of("other")), ("other", "other"));
    }
}

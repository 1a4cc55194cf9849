//! How cargo is called, so that nothing is built twice.

use std::collections::HashMap;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cargo_metadata::{Artifact, Message};

use crate::brokers::install_build_tools;
use crate::failure::Failure;

/// Where the packages of adapters are, each in a directory that is called like its broker.
pub(crate) const ADAPTERS: &str = "adapters";

/// Cargo, as somebody would call it by hand: what it has told this program about its package is taken out of the
/// environment, since build scripts that look at that (ring's) would run again, and all that rests on them be built anew.
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

/// Has cargo build what `arguments` select of these brokers' adapters, and gives the executables by the name of the broker.
///
/// Cargo is asked once for all of them: for each by itself it would choose other features of what they depend on, and build
/// that anew.
pub(crate) fn build<'a>(
    brokers: impl IntoIterator<Item = &'a str>,
    arguments: &[String],
) -> Result<HashMap<String, PathBuf>, Failure> {
    let brokers: Vec<_> = brokers.into_iter().collect();
    install_build_tools(brokers.iter().copied())?;
    let mut cargo = cargo()
        .args(arguments)
        .args(brokers.iter().map(|broker| format!("--package=partitura-{broker}")))
        .args(["--locked", "--message-format=json-render-diagnostics"])
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start cargo: {error}"))?;
    let mut executables = HashMap::new();
    if let Some(messages) = cargo.stdout.take() {
        for message in Message::parse_stream(BufReader::new(messages)) {
            if let Message::CompilerArtifact(artifact) = message? {
                executables.extend(executable(artifact));
            }
        }
    }
    let status = cargo.wait()?;
    if status.success() { Ok(executables) } else { Err(format!("cargo {}: {status}", arguments.join(" ")).into()) }
}

/// That of an adapter, and the name of its broker.
fn executable(artifact: Artifact) -> Option<(String, PathBuf)> {
    let directory = artifact.manifest_path.parent()?;
    let is_of_adapter = directory.parent().and_then(|parent| parent.file_name()) == Some(ADAPTERS);
    let is_wanted = is_of_adapter && (artifact.target.is_test() || artifact.target.is_example());
    let broker = directory.file_name().filter(|_| is_wanted)?.to_owned();
    Some((broker, artifact.executable?.into()))
}

/// The directory of a broker's adapter, in which cargo would run its tests.
pub(crate) fn directory(broker: &str) -> PathBuf {
    Path::new(ADAPTERS).join(broker)
}

//! The common part of the brokers that run on a JVM.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::PathBuf;

use crate::deployment::Deployment;
use crate::error::{Error, Result};
use crate::install;
use crate::instance::{Instance, create_directory};
use crate::process::Launch;

/// For the file `log4j2.properties` of the instance.
pub(crate) const LOGGING: &str = include_str!("log4j2.properties");

/// Fetches the software's jars. `jars` is the list of them, with `@VERSION@` in place of its version, which is
/// `version` unless the release says otherwise.
pub(crate) fn install(instance: &Instance, version: &str, jars: &str) -> Result<()> {
    install::JAVA.path(instance)?;
    let release = &instance.release;
    install::jars(instance, &release.software(version), &jars.replace("@VERSION@", release.version_or(version)))
}

/// The directory of the software's jars natively; a JVM is on the PATH.
pub(crate) fn home(instance: &Instance, software: &str) -> Result<PathBuf> {
    install::JAVA.path(instance)?;
    Ok(instance.software(software).join("lib"))
}

/// All jars.
pub(crate) fn class_path(deployment: &Deployment) -> Result<PathBuf> {
    Ok(deployment.home()?.join("*"))
}

pub(crate) fn is_installed(instance: &Instance, software: &str) -> bool {
    instance.software(software).join("installed.xml").exists()
}

/// Makes the command for a JVM with these options; `main` is the class and its arguments.
pub(crate) fn launch(deployment: &Deployment, options: &[impl AsRef<OsStr>], main: &[OsString]) -> Result<Launch> {
    // Native libraries are unpacked in this directory, and stay after SIGKILL.
    let temporary = deployment.instance.path("tmp");
    if temporary.exists() {
        fs::remove_dir_all(&temporary).map_err(Error::file("remove", &temporary))?;
    }
    create_directory(&temporary)?;
    let temporary = format!("-Djava.io.tmpdir={}", deployment.inside("tmp").display());
    let logging = format!("-Dlog4j2.configurationFile={}", deployment.inside("log4j2.properties").display());
    // The serial collector has the smallest footprint, and the heaps are small.
    let mut arguments: Vec<OsString> =
        vec!["-XX:+UseSerialGC".into(), "-XX:+ExitOnOutOfMemoryError".into(), temporary.into(), logging.into()];
    arguments.extend(options.iter().map(|option| option.as_ref().to_owned()));
    arguments.extend(["-cp".into(), class_path(deployment)?.into()]);
    arguments.extend_from_slice(main);
    Ok(Launch { program: install::JAVA.program.into(), arguments, environment: Vec::new(), user: None })
}

//! Packages from Debian.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result};
use crate::install::{find, run_over_network};
use crate::instance::{brokers, lock};
use crate::requester::Requester;

/// Installs packages without starting their services. `missing` is the program or library that is needed.
pub(crate) fn install(requester: &impl Requester, packages: &[&str], missing: &'static str) -> Result<()> {
    let packages_shown = packages.join(" ");
    let remedy = |why: &str| Error::Missing {
        server: requester.name().to_owned(),
        program: missing,
        remedy: format!("install it (`apt-get install {packages_shown}` on Debian); {why}"),
    };
    if find("apt-get").is_none() {
        return Err(remedy("this machine has no apt-get, so install it in this system's way"));
    }
    if !is_root() {
        return Err(remedy("only root may do that, and this process is not"));
    }
    let _lock = lock(&brokers().join("software").join("apt.lock"))?;
    requester.report(&format!("installing from Debian: {packages_shown}"));
    let _policy = NoServices::declare()?;
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(["-o", "DPkg::Lock::Timeout=300", "-q"]).args(arguments);
        command
    };
    run_over_network(requester, || apt(&["update"]))?;
    let install = [&["install", "--yes", "--no-install-recommends"], packages].concat();
    run_over_network(requester, || apt(&install))
}

pub(crate) fn is_root() -> bool {
    // The owner of a process's files in /proc is the user as whom it acts.
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

/// While this value exists, no package starts a service: Debian's invoke-rc.d asks this script, and 101 means
/// "forbidden".
struct NoServices {
    script: Option<PathBuf>,
}

impl NoServices {
    fn declare() -> Result<Self> {
        let script = Path::new("/usr/sbin/policy-rc.d");
        if script.exists() {
            // The machine has a policy already, for example from the image of a container.
            return Ok(Self { script: None });
        }
        fs::write(script, "#!/bin/sh\nexit 101\n").map_err(Error::file("write", script))?;
        let policy = Self { script: Some(script.to_owned()) };
        fs::set_permissions(script, fs::Permissions::from_mode(0o755))
            .map_err(Error::file("make executable", script))?;
        Ok(policy)
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(script) = &self.script {
            // If the script stays, the machine's own packages start no services. That is a nuisance, but it cannot be
            // mended here.
            let _ = fs::remove_file(script);
        }
    }
}

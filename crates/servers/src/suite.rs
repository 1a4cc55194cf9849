//! Software of another release of Debian than this machine's: unpacked beside it, and run with its own libraries.

use std::ffi::OsString;
use std::fs;
use std::process::Command;

use crate::debian;
use crate::error::{Error, Result};
use crate::install::{self, Tool};
use crate::instance::{Instance, lock};
use crate::process::Launch;

const UNPACK: &str = include_str!("suite/unpack.sh");
/// Becomes the program that is named by what follows, once `$0` is the `/usr` that it and its children see.
const WITHIN: &str = r#"mount --bind "$0" /usr && exec "$@""#;

/// A package of a release of Debian, as apt is told of it, below the software's directory.
pub(crate) fn unpack(instance: &Instance, software: &str, suite: &str, package: &str) -> Result<()> {
    let directory = instance.software(software);
    let _lock = lock(&directory.with_extension("lock"))?;
    if directory.exists() {
        return Ok(());
    }
    for program in ["apt-get", "dpkg"] {
        Tool { program, remedy: "versions other than the machine's own are unpacked from Debian's packages" }
            .path(instance)?;
    }
    instance.report(&format!("unpacking {package} of Debian's {suite}"));
    let script = instance.write("unpack.sh", UNPACK)?;
    let partial = instance.software(&format!("{software}.partial"));
    install::run_over_network(instance, || {
        let mut command = Command::new("sh");
        command.arg(&script).arg(&partial).args([suite, package]);
        command
    })?;
    // Only what is complete has the name by which it is found.
    fs::rename(&partial, &directory).map_err(Error::file("rename", &partial))
}

/// The same program of the unpacked software in place of the machine's: with its `/usr`, in a mount namespace, and with
/// everything else as it is here. Its process becomes the program by `exec`.
pub(crate) fn within(instance: &Instance, software: &str, launch: Launch) -> Result<Launch> {
    let unshare = Tool { program: "unshare", remedy: "install util-linux" };
    let usr = instance.software(software).join("usr");
    let mut arguments: Vec<OsString> = vec!["--mount".into()];
    if !debian::is_root() {
        // Who is not may mount in a namespace where he is, if the machine lets him have one.
        arguments.push("--map-root-user".into());
    }
    arguments.extend(["sh".into(), "-c".into(), WITHIN.into(), usr.into(), launch.program.into()]);
    arguments.extend(launch.arguments);
    Ok(Launch { program: unshare.path(instance)?, arguments, ..launch })
}

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
/// Mounts `$0` as the `/usr` of this process and its children, and then becomes the program in its arguments.
const WITHIN: &str = r#"mount --bind "$0" /usr && exec "$@""#;

/// A package of a release of Debian, with a configuration of apt below the software's directory.
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
    // Only a complete directory gets the name by which it is found.
    fs::rename(&partial, &directory).map_err(Error::file("rename", &partial))
}

/// Makes a command that runs the program of the unpacked software instead of the machine's: in a mount namespace with
/// its `/usr`, and with everything else as on this machine. The process becomes the program by `exec`.
pub(crate) fn within(instance: &Instance, software: &str, launch: Launch) -> Result<Launch> {
    let unshare = Tool { program: "unshare", remedy: "install util-linux" };
    let usr = instance.software(software).join("usr");
    let mut arguments: Vec<OsString> = vec!["--mount".into()];
    if !debian::is_root() {
        // A user who is not root may mount in a user namespace where it is root, if the machine allows it one.
        arguments.push("--map-root-user".into());
    }
    arguments.extend(["sh".into(), "-c".into(), WITHIN.into(), usr.into(), launch.program.into()]);
    arguments.extend(launch.arguments);
    Ok(Launch { program: unshare.path(instance)?, arguments, ..launch })
}

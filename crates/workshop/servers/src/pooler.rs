//! PgBouncer, which stands between clients and Postgres.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::error::Result;
use crate::install::find;
use crate::requester::Requester;
use crate::{debian, postgres};

const NAME: &str = "pgbouncer";

/// Returns the command that runs PgBouncer with this configuration, in the foreground. It refuses to run as root, so
/// for root it runs as Postgres does, and needs a configuration that all users may read.
///
/// It is installed if it is missing, on Debian and as root. `report` gets a line for each action.
///
/// # Errors
///
/// [`Error::Missing`](crate::Error::Missing) if it is missing and cannot be installed from here.
pub fn pgbouncer(configuration: &Path, report: impl Fn(&str)) -> Result<Command> {
    let is_installed = || find(NAME).is_some() || Path::new("/usr/sbin/pgbouncer").exists();
    if !is_installed() {
        debian::install(&Pooler { report }, &[NAME], NAME)?;
    }
    let program = find(NAME).unwrap_or_else(|| "/usr/sbin/pgbouncer".into());
    let mut command = Command::new(program);
    command.arg("-q").arg(configuration);
    if let Some((user, group)) = postgres::user()? {
        command.uid(user).gid(group);
    }
    Ok(command)
}

struct Pooler<R> {
    report: R,
}

impl<R: Fn(&str)> Requester for Pooler<R> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn report(&self, line: &str) {
        (self.report)(line);
    }
}

//! The ways in which servers run: as processes of this machine, or in containers.
//! [`Software`](crate::software::Software) describes a server, and the trait of this file carries it out.

use std::path::PathBuf;
use std::time::Duration;

use crate::error::Result;
use crate::instance::Instance;
use crate::process::Launch;

/// The environment variable that chooses the way in which servers run.
pub(crate) const CHOICE: &str = "PARTITURA_SERVERS";

/// One way to run servers. Callers hold the lock of the instance, except for `find`, `version` and `log`, which only
/// read.
pub(crate) trait Runtime: Sync {
    /// Its name in [`CHOICE`].
    fn name(&self) -> &'static str;

    /// The file in an instance's directory that marks its data as begun in this way.
    fn mark(&self) -> &'static str;

    /// The instance's directory, as its server sees it.
    fn directory(&self, instance: &Instance) -> PathBuf;

    /// The address on which its server listens. Clients reach it at 127.0.0.1 in any case.
    fn listen(&self) -> &'static str;

    /// Gets the software, if it is not there.
    fn install(&self, instance: &Instance) -> Result<()>;

    /// The directory of the software's programs (its jars, if it runs on a JVM), as the server sees it.
    fn home(&self, instance: &Instance) -> Result<PathBuf>;

    /// The version that would run. `None` if it is not installed.
    fn version(&self, instance: &Instance) -> Option<String>;

    /// Runs a program that prepares something to its end. Its output is shown only if it fails.
    fn run(&self, instance: &Instance, tool: Launch) -> Result<()>;

    /// Checks that no other program has the server's ports: this error says more than the server's own log.
    fn expect_free_port(&self, instance: &Instance) -> Result<()> {
        instance.expect_free_port()
    }

    /// Starts the server, so that it outlives us, and returns its process.
    fn start(&self, instance: &Instance, launch: Launch) -> Result<u32>;

    /// The server's process, if it runs.
    fn find(&self, instance: &Instance) -> Option<u32>;

    /// Its log since it was last started.
    fn log(&self, instance: &Instance) -> String;

    /// Writes the end of its log to [`Instance::log`], if it is not there already, for a person to read.
    fn keep_log(&self, instance: &Instance);

    /// Ends it by SIGKILL. Returns when all of its processes are gone.
    fn kill(&self, instance: &Instance) -> Result<()>;

    /// Stops all of its processes where they are, so that its connections stay open and nobody answers.
    fn freeze(&self, instance: &Instance) -> Result<()>;

    /// Lets its processes go on. Does nothing if they are not frozen.
    fn thaw(&self, instance: &Instance) -> Result<()>;

    /// Ends it in good order, or by SIGKILL after `time_limit`. Does nothing if it does not run.
    fn stop(&self, instance: &Instance, time_limit: Duration) -> Result<()>;

    /// Removes what a stopped server leaves outside the instance's directory; `wipe` if its data goes too.
    fn clean(&self, instance: &Instance, wipe: bool) -> Result<()>;
}

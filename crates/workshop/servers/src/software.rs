//! The differences between the kinds.

use std::path::PathBuf;
use std::time::Duration;

use crate::deployment::Deployment;
use crate::endpoints::Endpoints;
use crate::error::Result;
use crate::image::Image;
use crate::instance::Instance;
use crate::process::Launch;

/// A program that can be installed, prepared, started and asked for its state.
pub(crate) trait Software: Sync {
    /// Checks that this version exists, as far as that is known without a download.
    fn expect_version(&self, _instance: &Instance) -> Result<()> {
        Ok(())
    }

    /// Installs the missing parts for running it natively.
    fn install(&self, instance: &Instance) -> Result<()>;

    /// The directory of its programs, or its jars, natively.
    fn home(&self, instance: &Instance) -> Result<PathBuf>;

    /// The vendor's image that has them.
    fn image(&self, instance: &Instance) -> Image;

    /// Writes its configuration, with paths as the server sees them. The first time it also makes the initial data.
    fn prepare(&self, deployment: &Deployment) -> Result<()>;

    /// The command that starts the prepared server.
    fn launch(&self, deployment: &Deployment) -> Result<Launch>;

    /// Whether it serves its clients now. This is called repeatedly.
    fn is_ready(&self, deployment: &Deployment) -> bool;

    /// The time within which it is ready, on a busy machine too.
    fn ready_within(&self) -> Duration;

    fn endpoints(&self, instance: &Instance) -> Endpoints;

    /// The header by which an operator logs in to its HTTP interface; empty if it asks for none.
    fn operator(&self) -> &'static str {
        ""
    }

    /// The version that runs, or would run natively. `None` if it is not installed.
    fn version(&self, instance: &Instance) -> Option<String>;

    /// The wrapper that its programs need natively.
    fn natively(&self, _instance: &Instance, launch: Launch) -> Result<Launch> {
        Ok(launch)
    }

    /// The signal that ends it in good order.
    fn stop_signal(&self) -> &'static str {
        "TERM"
    }

    /// Removes what it leaves outside the instance's directory natively; `wipe` if its data goes too.
    fn clean(&self, _instance: &Instance, _wipe: bool) -> Result<()> {
        Ok(())
    }
}

//! What differs between the kinds.

use std::path::PathBuf;
use std::time::Duration;

use crate::deployment::Deployment;
use crate::endpoints::Endpoints;
use crate::error::Result;
use crate::image::Image;
use crate::instance::Instance;
use crate::process::Launch;

/// A program that can be installed, prepared, started and asked.
pub(crate) trait Software: Sync {
    /// That there is such a version of it, as far as that is known before it is looked for.
    fn expect_version(&self, _instance: &Instance) -> Result<()> {
        Ok(())
    }

    /// Gets what is missing on this machine to run it natively.
    fn install(&self, instance: &Instance) -> Result<()>;

    /// Where its programs are natively, or its jars.
    fn home(&self, instance: &Instance) -> Result<PathBuf>;

    /// The vendor's image that has them.
    fn image(&self, instance: &Instance) -> Image;

    /// Writes configuration, with paths as the server sees them, and, the first time, the beginnings of the data.
    fn prepare(&self, deployment: &Deployment) -> Result<()>;

    /// How the prepared server is started.
    fn launch(&self, deployment: &Deployment) -> Result<Launch>;

    /// Whether it serves its clients now. Asked again and again.
    fn is_ready(&self, deployment: &Deployment) -> bool;

    /// Within which time it is ready, on a busy machine too.
    fn patience(&self) -> Duration;

    fn endpoints(&self, instance: &Instance) -> Endpoints;

    /// The version that runs, or would run natively. None if it is not installed.
    fn version(&self, instance: &Instance) -> Option<String>;

    /// What has to be put around its programs natively.
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

//! Servers as processes of this machine.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::install;
use crate::instance::Instance;
use crate::process::{Launch, Process};
use crate::runtime::Runtime;

pub(crate) struct Native;

impl Runtime for Native {
    fn name(&self) -> &'static str {
        "native"
    }

    fn mark(&self) -> &'static str {
        Process::NOTE
    }

    fn directory(&self, instance: &Instance) -> PathBuf {
        instance.directory()
    }

    fn listen(&self) -> &'static str {
        "127.0.0.1"
    }

    fn install(&self, instance: &Instance) -> Result<()> {
        instance.release.kind().software().install(instance)
    }

    fn home(&self, instance: &Instance) -> Result<PathBuf> {
        instance.release.kind().software().home(instance)
    }

    fn version(&self, instance: &Instance) -> Option<String> {
        instance.release.kind().software().version(instance)
    }

    fn run(&self, instance: &Instance, tool: Launch) -> Result<()> {
        install::run(instance, instance.release.kind().software().natively(instance, tool)?.command())
    }

    fn start(&self, instance: &Instance, launch: Launch) -> Result<u32> {
        let launch = instance.release.kind().software().natively(instance, launch)?;
        Ok(Process::launch(instance, launch)?.pid)
    }

    fn find(&self, instance: &Instance) -> Option<u32> {
        Some(Process::find(instance)?.pid)
    }

    fn log(&self, instance: &Instance) -> String {
        let text = fs::read(instance.log()).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }

    fn keep_log(&self, _instance: &Instance) {}

    fn kill(&self, instance: &Instance) -> Result<()> {
        let process = Process::find(instance);
        process.ok_or_else(|| Error::NotRunning { server: instance.name.clone() })?.kill(instance)
    }

    fn freeze(&self, instance: &Instance) -> Result<()> {
        let process = Process::find(instance);
        process.ok_or_else(|| Error::NotRunning { server: instance.name.clone() })?.freeze(instance)
    }

    fn thaw(&self, instance: &Instance) -> Result<()> {
        Process::find(instance).map_or(Ok(()), |process| process.thaw(instance))
    }

    fn stop(&self, instance: &Instance, time_limit: Duration) -> Result<()> {
        match Process::find(instance) {
            Some(process) => process.stop(instance, instance.release.kind().software().stop_signal(), time_limit),
            None => Ok(()),
        }
    }

    fn clean(&self, instance: &Instance, wipe: bool) -> Result<()> {
        instance.release.kind().software().clean(instance, wipe)
    }
}

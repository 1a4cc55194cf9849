//! Servers as containers of the vendors' images, by the `docker` command.
//!
//! An instance's directory is mounted at [`INSIDE`], so that the configuration, the certificates and the data are the
//! same files as natively. Only the programs of the image are used, not its entry point and its configuration. Each
//! port is published on the same port of 127.0.0.1, so that the addresses which a server tells its clients are right
//! outside of the container and inside. The nodes of a cluster share one network namespace, a *pod*'s, and with it
//! the loopback interface on which they find each other.

use std::ffi::OsString;
use std::fs::File;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use crate::container::{
    Container, INSIDE, MADE_BY, POD, container_name, digest, image_of, made_of, name, network, pod_of,
};
use crate::error::{Error, Result};
use crate::instance::{Instance, lock};
use crate::process::Launch;
use crate::runtime::{CHOICE, Runtime};
use crate::{engine, install};

pub(crate) struct Docker;

impl Docker {
    /// Whether an engine answers that can do all this; else the reason why not. It is asked once in a process.
    pub(crate) fn answers() -> std::result::Result<(), String> {
        static ANSWER: OnceLock<std::result::Result<(), String>> = OnceLock::new();
        ANSWER.get_or_init(engine::answers).clone()
    }

    /// Makes the container, or starts it again if it is there and was made by the same command.
    fn bring_up(instance: &Instance, name: &str, make: &[OsString]) -> Result<()> {
        let digest = digest(make);
        match Container::find(name) {
            Some(container) if container.made_by == digest => docker(instance, &["start".into(), name.into()]),
            other => {
                if other.is_some() {
                    Self::remove(instance, name)?;
                }
                let label = format!("{MADE_BY}={digest}");
                let run = ["run", "--detach", "--pull", "never", "--name", name, "--label", &label].map(OsString::from);
                docker(instance, &[&run, make].concat())
            }
        }
    }

    fn remove(instance: &Instance, name: &str) -> Result<()> {
        docker(instance, &["rm", "--force", "--volumes", name].map(OsString::from))
    }

    /// The pod of the instance's cluster, while the lock on it is held; `None` if the instance is alone.
    fn pod(instance: &Instance) -> Result<Option<(String, File)>> {
        let directory = instance.directory();
        match directory.parent() {
            Some(cluster) if instance.nodes.len() > 1 => {
                let lock = lock(&cluster.join("pod.lock"))?;
                Ok(Some((container_name(&format!("{}-cluster", instance.release.name()), cluster), lock)))
            }
            _ => Ok(None),
        }
    }
}

impl Runtime for Docker {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn mark(&self) -> &'static str {
        "container"
    }

    fn directory(&self, _instance: &Instance) -> PathBuf {
        INSIDE.into()
    }

    fn listen(&self) -> &'static str {
        // Traffic to published ports arrives at the container's own interface.
        "0.0.0.0"
    }

    fn install(&self, instance: &Instance) -> Result<()> {
        let image = image_of(instance).name;
        if is_here(&image) {
            return Ok(());
        }
        instance.report(&format!("pulling the image {image}; {CHOICE}=native does without containers"));
        install::run_over_network(instance, || {
            let mut command = Command::new("docker");
            command.args(["pull", "--quiet", &image]);
            command
        })
    }

    fn home(&self, instance: &Instance) -> Result<PathBuf> {
        Ok(image_of(instance).home.into())
    }

    fn version(&self, instance: &Instance) -> Option<String> {
        let image = image_of(instance);
        is_here(&image.name).then(|| image.version().map(str::to_owned)).flatten()
    }

    fn run(&self, instance: &Instance, tool: Launch) -> Result<()> {
        mark(instance)?;
        let run = ["run", "--rm", "--pull", "never", "--network", "none"].map(OsString::from);
        docker(instance, &[&run, &*made_of(instance, &tool)?].concat())
    }

    fn expect_free_port(&self, instance: &Instance) -> Result<()> {
        match Self::pod(instance)? {
            // The pod listens, for its nodes.
            Some((pod, _lock)) if Container::find(&pod).is_some_and(|pod| pod.runs()) => Ok(()),
            _ => instance.expect_free_port(),
        }
    }

    fn start(&self, instance: &Instance, launch: Launch) -> Result<u32> {
        mark(instance)?;
        let name = name(instance);
        let pod = Self::pod(instance)?;
        let network = match &pod {
            Some((pod, _lock)) => {
                Self::bring_up(instance, pod, &pod_of(instance))?;
                vec![
                    "--network".into(),
                    format!("container:{pod}").into(),
                    "--label".into(),
                    format!("{POD}={pod}").into(),
                ]
            }
            None => network(&image_of(instance), &[instance.ports]),
        };
        let signal = instance.release.kind().software().stop_signal();
        let end = ["--stop-signal", signal].map(OsString::from);
        Self::bring_up(instance, &name, &[&end, &*network, &*made_of(instance, &launch)?].concat())?;
        Ok(Container::find(&name).map_or(0, |container| container.pid))
    }

    fn find(&self, instance: &Instance) -> Option<u32> {
        Some(Container::find(&name(instance)).filter(Container::runs)?.pid)
    }

    fn log(&self, instance: &Instance) -> String {
        let Some(container) = Container::find(&name(instance)) else { return String::new() };
        logs(instance, &["--since", &container.started])
    }

    fn keep_log(&self, instance: &Instance) {
        // Reads more than the log of the last start: a server that ended at once had written before the time at which
        // Docker said that it had started.
        let text = logs(instance, &["--tail", "5000"]);
        if !text.is_empty() && instance.write("log", &text).is_err() {
            instance.report("its log cannot be written down");
        }
    }

    fn kill(&self, instance: &Instance) -> Result<()> {
        let pid = self.find(instance).ok_or_else(|| Error::NotRunning { server: instance.name.clone() })?;
        docker(instance, &["kill", "--signal", "KILL", &name(instance)].map(OsString::from))?;
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.find(instance).is_some() {
            if Instant::now() > deadline {
                return Err(Error::Immortal { server: instance.name.clone(), pid });
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn freeze(&self, instance: &Instance) -> Result<()> {
        docker(instance, &["pause", &name(instance)].map(OsString::from))
    }

    fn thaw(&self, instance: &Instance) -> Result<()> {
        let is_paused = Container::find(&name(instance)).is_some_and(|container| container.is_paused);
        if is_paused { docker(instance, &["unpause", &name(instance)].map(OsString::from)) } else { Ok(()) }
    }

    fn stop(&self, instance: &Instance, time_limit: Duration) -> Result<()> {
        if self.find(instance).is_none() {
            return Ok(());
        }
        // The option `--time` was renamed; its short form was not.
        docker(instance, &["stop", "-t", &time_limit.as_secs().to_string(), &name(instance)].map(OsString::from))
    }

    fn clean(&self, instance: &Instance, _wipe: bool) -> Result<()> {
        let pod = Self::pod(instance)?;
        let name = name(instance);
        if Container::find(&name).is_some() {
            self.keep_log(instance);
            Self::remove(instance, &name)?;
        }
        match pod {
            Some((pod, _lock)) if Container::find(&pod).is_some() => {
                let filter = format!("label={POD}={pod}");
                let mut command = Command::new("docker");
                command.args(["ps", "--all", "--quiet", "--filter", &filter]);
                let members = install::output(instance, command)?;
                if members.trim().is_empty() { Self::remove(instance, &pod) } else { Ok(()) }
            }
            _ => Ok(()),
        }
    }
}

fn docker(instance: &Instance, arguments: &[OsString]) -> Result<()> {
    let mut command = Command::new("docker");
    command.args(arguments);
    install::run(instance, command)
}

fn is_here(image: &str) -> bool {
    let asked = Command::new("docker").args(["image", "inspect", image]).output();
    asked.is_ok_and(|output| output.status.success())
}

fn logs(instance: &Instance, arguments: &[&str]) -> String {
    let output = Command::new("docker").arg("logs").args(arguments).arg(name(instance)).output();
    output.map_or_else(
        |_| String::new(),
        |output| format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)),
    )
}

/// Notes that the instance's data belongs to a container, and its name.
fn mark(instance: &Instance) -> Result<()> {
    instance.write(Docker.mark(), &format!("{}\n", name(instance)))?;
    Ok(())
}

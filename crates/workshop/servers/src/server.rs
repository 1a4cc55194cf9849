//! A server, from its installation to its end.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use std::{fs, io};

use serde::Serialize;

use crate::deployment::Deployment;
use crate::endpoints::Endpoints;
use crate::error::{Error, Result};
use crate::http;
use crate::install::last_lines;
use crate::instance::{self, Instance, Ports};
use crate::kind::Kind;
use crate::release::Release;
use crate::software::Software;

/// The interval at which a starting server is asked whether it is ready.
const POLL: Duration = Duration::from_millis(100);
/// The time after which a server that was asked to end is killed.
const FAREWELL: Duration = Duration::from_secs(30);

/// A server on this machine, which may run or not. It is cheap to make, anywhere and any number of times, since its
/// state is on the disk. Calls on one instance wait for each other, in other processes too.
#[derive(Clone)]
pub struct Server {
    instance: Instance,
    software: &'static dyn Software,
}

impl Server {
    /// The standing instance, which all processes on this machine share: a [`Kind`], or a [`Release`] of it. The
    /// instances of several versions have data of their own and the same ports: only one can be up.
    pub fn new(release: impl Into<Release>) -> Self {
        Self::standing(release.into().or_chosen())
    }

    /// The standing instances of a kind: that of [`new`](Self::new), that of the usual version, and all others that
    /// this machine has data of.
    pub fn versions(kind: Kind) -> Vec<Self> {
        let entries = fs::read_dir(instance::brokers()).into_iter().flatten().flatten();
        let known = entries.filter_map(|entry| Release::named(entry.file_name().to_str()?));
        let others = known.filter(|release| release.kind() == kind).chain([kind.into()]).map(Self::standing);
        let mut all: Vec<Self> = [Self::new(kind)].into_iter().chain(others).collect();
        all.sort_by(|a, b| a.name().cmp(b.name()));
        all.dedup_by(|a, b| a.name() == b.name());
        all
    }

    fn standing(release: Release) -> Self {
        let ports = Ports::standing(release.kind());
        let name = release.name();
        Self::from_instance(Instance::new(release, name, ports))
    }

    /// A private instance: its directory is `target/brokers/<kind>-<name>`, its ports are the eight from `first_port`.
    pub fn private(kind: Kind, name: &str, first_port: u16) -> Self {
        let release = Release::from(kind).or_chosen();
        let name = format!("{}-{name}", release.name());
        Self::from_instance(Instance::new(release, name, Ports::from(first_port)))
    }

    /// The three nodes of the standing cluster, below `target/brokers/<kind>-cluster`. Only Kafka and NATS have one.
    /// Start them at the same time, each from its own thread: a node is ready when it sees a majority.
    pub fn cluster(release: impl Into<Release>) -> Vec<Self> {
        let release = release.into().or_chosen();
        let nodes = Ports::cluster(release.kind());
        let node = |(number, ports): (usize, &Ports)| {
            let name = format!("{}-cluster/{number}", release.name());
            Self::from_instance(Instance::new(release.clone(), name, *ports).in_cluster(number, nodes.clone()))
        };
        (1..).zip(&nodes).map(node).collect()
    }

    fn from_instance(instance: Instance) -> Self {
        Self { software: instance.release.kind().software(), instance }
    }

    /// Sets the receiver of the lines about the work that is done. By default they go to the standard error under the
    /// server's name.
    #[must_use]
    pub fn with_report(self, report: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self { instance: self.instance.with_report(Arc::new(report)), ..self }
    }

    /// Lets a delivery be held for this long, in whole seconds, when it is started; its URL says so, too. `None`: servers
    /// of this kind let it be held for ever.
    #[must_use]
    pub fn with_hold(mut self, limit: Duration) -> Option<Self> {
        self.instance.hold = Some(limit);
        (self.kind() == Kind::Rabbitmq).then_some(self)
    }

    /// Its name in messages and in `target/brokers`: the kind's, perhaps with a suffix.
    pub fn name(&self) -> &str {
        &self.instance.name
    }

    /// The kind of server.
    pub fn kind(&self) -> Kind {
        self.instance.release.kind()
    }

    /// Installs it if it is not there, starts it if it does not run, and waits until it is ready.
    ///
    /// # Errors
    ///
    /// A program is missing and cannot be installed from here; and all errors of [`start`](Self::start).
    pub fn up(&self) -> Result<()> {
        let _lock = self.instance.lock()?;
        self.software.expect_version(&self.instance)?;
        let deployment = Deployment::to_run(&self.instance)?;
        if deployment.runtime.find(&self.instance).is_none() {
            deployment.runtime.install(&self.instance)?;
        }
        self.start_locked(&deployment)
    }

    /// Starts it with the data that it has, and waits until it is ready. Does nothing if it is. A frozen one goes on.
    ///
    /// # Errors
    ///
    /// It is not installed, another program has its port, it ended, or it was not ready in time. The last two have the
    /// end of its log.
    pub fn start(&self) -> Result<()> {
        let _lock = self.instance.lock()?;
        self.start_locked(&Deployment::to_run(&self.instance)?)
    }

    fn start_locked(&self, deployment: &Deployment) -> Result<()> {
        let begun = Instant::now();
        let Deployment { instance, runtime } = deployment;
        let process = match runtime.find(instance) {
            Some(_) if self.software.is_ready(deployment) => return Ok(()),
            Some(process) => {
                // A test that died may have left it frozen.
                runtime.thaw(instance)?;
                process
            }
            None => {
                self.expect_no_rival()?;
                runtime.expect_free_port(instance)?;
                self.software.prepare(deployment)?;
                runtime.start(instance, self.software.launch(deployment)?)?
            }
        };
        self.await_ready(deployment, process)?;
        let (url, seconds, way) = (self.url(), begun.elapsed().as_secs_f64(), runtime.name());
        instance.report(&format!("ready after {seconds:.1} s: {url}, process {process}, {way}"));
        Ok(())
    }

    /// An error at this point names the server that has the ports.
    fn expect_no_rival(&self) -> Result<()> {
        let of = |server: &Self| server.instance.release.to_string();
        self.rival().map_or(Ok(()), |rival| Err(Error::Rival { server: of(self), rival: of(&rival) }))
    }

    /// Another version that is up on the same ports.
    fn rival(&self) -> Option<Self> {
        let is_other = |other: &Self| other.name() != self.name() && other.instance.ports == self.instance.ports;
        let others = Self::versions(self.kind()).into_iter().filter(is_other);
        others.into_iter().find(|other| other.process().is_some())
    }

    /// Its process, however it runs.
    fn process(&self) -> Option<u32> {
        Deployment::as_begun(&self.instance).runtime.find(&self.instance)
    }

    fn await_ready(&self, deployment: &Deployment, process: u32) -> Result<()> {
        let Deployment { instance, runtime } = deployment;
        let (server, log, ready_within) = (instance.name.clone(), instance.log(), self.software.ready_within());
        let deadline = Instant::now() + ready_within;
        while !self.software.is_ready(deployment) {
            if runtime.find(instance) != Some(process) {
                return Err(Error::Ended { server, tail: log_tail(deployment), log });
            }
            if Instant::now() > deadline {
                return Err(Error::NotReady { server, waited: ready_within, tail: log_tail(deployment), log });
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// Ends it by SIGKILL, as a crash would. Its data stays as it is. Returns when its process is gone.
    ///
    /// # Errors
    ///
    /// [`Error::NotRunning`] if there is nothing to kill.
    pub fn kill(&self) -> Result<()> {
        let _lock = self.instance.lock()?;
        Deployment::as_begun(&self.instance).runtime.kill(&self.instance)
    }

    /// Stops it where it is (SIGSTOP, a paused container): its connections stay open, and nobody answers. A frozen
    /// server can be killed.
    ///
    /// # Errors
    ///
    /// [`Error::NotRunning`] if there is nothing to freeze.
    pub fn freeze(&self) -> Result<()> {
        let _lock = self.instance.lock()?;
        Deployment::as_begun(&self.instance).runtime.freeze(&self.instance)
    }

    /// Lets a frozen server go on. Does nothing to another.
    ///
    /// # Errors
    ///
    /// Its process cannot be told.
    pub fn thaw(&self) -> Result<()> {
        let _lock = self.instance.lock()?;
        Deployment::as_begun(&self.instance).runtime.thaw(&self.instance)
    }

    /// Ends it in good order, or by SIGKILL after 30 s, and with `wipe` removes all that it has on the disk except
    /// installed software. Does nothing to a server that does not run.
    ///
    /// # Errors
    ///
    /// Its process does not end, or its files cannot be removed.
    pub fn down(&self, wipe: bool) -> Result<()> {
        let _lock = self.instance.lock()?;
        let Deployment { instance, runtime } = Deployment::as_begun(&self.instance);
        if runtime.find(&instance).is_some() {
            runtime.stop(&instance, FAREWELL)?;
            instance.report("is down");
        }
        runtime.clean(&instance, wipe)?;
        let directory = self.instance.directory();
        if wipe && directory.exists() {
            fs::remove_dir_all(&directory).map_err(Error::file("remove", &directory))?;
            self.instance.report("its data is gone");
        }
        Ok(())
    }

    /// Returns its present state.
    pub fn status(&self) -> Status {
        let deployment = Deployment::as_begun(&self.instance);
        let Deployment { instance, runtime } = &deployment;
        let pid = runtime.find(instance);
        Status {
            name: instance.name.clone(),
            url: self.url(),
            up: pid.is_some() && self.software.is_ready(&deployment),
            version: runtime.version(instance),
            pid,
        }
    }

    /// The URL for clients without further credentials: [`Endpoints::url`].
    pub fn url(&self) -> String {
        self.endpoints().url
    }

    /// Makes a request to its HTTP interface, [`Endpoints::admin`], with the rights of an operator: `DELETE /path`, with
    /// JSON or nothing in its body. Returns the body of the answer.
    ///
    /// # Errors
    ///
    /// It has no such interface, or cannot be reached. If it refuses, the error has its answer.
    pub fn operate(&self, request: &str, body: &str) -> io::Result<String> {
        if self.endpoints().admin.is_none() {
            return Err(io::Error::other(format!("{} has no HTTP interface", self.name())));
        }
        http::operate(self.instance.ports.http, request, self.software.operator(), body)
    }

    /// All its endpoints, known before it runs. The files that they name exist once it was up.
    pub fn endpoints(&self) -> Endpoints {
        self.software.endpoints(&self.instance)
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Server").field(&self.instance.name).finish()
    }
}

/// The state of a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Status {
    /// [`Server::name`].
    pub name: String,
    /// Its URL.
    pub url: String,
    /// Whether it serves its clients.
    pub up: bool,
    /// The version that runs, or is installed.
    pub version: Option<String>,
    /// Its process, if it runs.
    pub pid: Option<u32>,
}

fn log_tail(Deployment { instance, runtime }: &Deployment) -> String {
    runtime.keep_log(instance);
    let text = fs::read(instance.log()).unwrap_or_default();
    last_lines(&String::from_utf8_lossy(&text), 30)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_written_with_the_names_that_scripts_read() {
        let status = Status {
            name: "nats".to_owned(),
            url: "nats://127.0.0.1:14222".to_owned(),
            up: false,
            version: None,
            pid: None,
        };
        let json = serde_json::to_string(&status).expect("plain data");
        assert_eq!(json, r#"{"name":"nats","url":"nats://127.0.0.1:14222","up":false,"version":null,"pid":null}"#);
    }

    #[test]
    fn what_does_not_run_cannot_be_killed_and_is_shown_as_down() {
        let server = Server::private(Kind::Nats, "never-started", 40000);
        assert!(matches!(server.kill(), Err(Error::NotRunning { .. })));
        let status = server.status();
        assert!(!status.up);
        assert_eq!(status.pid, None);
    }
}

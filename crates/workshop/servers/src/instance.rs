//! One installation of a server: its name, its directory, its ports.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::kind::Kind;
use crate::release::Release;
use crate::requester::Requester;

/// A receiver of lines about the work that is done.
pub(crate) type Report = Arc<dyn Fn(&str) + Send + Sync>;

#[derive(Clone)]
pub(crate) struct Instance {
    pub(crate) release: Release,
    /// The name in messages, and of the directory: the release, perhaps with a suffix.
    pub(crate) name: String,
    pub(crate) ports: Ports,
    /// The number of the node, from 1.
    pub(crate) node: usize,
    /// The ports of all nodes of its cluster: its own only, if it is alone.
    pub(crate) nodes: Vec<Ports>,
    /// The directory of all instances and their software.
    brokers: PathBuf,
    /// The time for which a delivery may be held, if it is not the server's default.
    pub(crate) hold: Option<Duration>,
    report: Report,
}

impl Instance {
    pub(crate) fn new(release: impl Into<Release>, name: String, ports: Ports) -> Self {
        let report = {
            let name = name.clone();
            move |line: &str| eprintln!("{name}: {line}")
        };
        let (release, brokers) = (release.into(), brokers());
        Self { release, name, ports, node: 1, nodes: vec![ports], brokers, hold: None, report: Arc::new(report) }
    }

    /// Makes it a node of a cluster.
    pub(crate) fn in_cluster(self, node: usize, nodes: Vec<Ports>) -> Self {
        Self { node, nodes, ..self }
    }

    pub(crate) fn with_report(self, report: Report) -> Self {
        Self { report, ..self }
    }

    pub(crate) fn report(&self, line: &str) {
        (self.report)(line);
    }

    /// The directory of this instance, which `down --wipe` removes.
    pub(crate) fn directory(&self) -> PathBuf {
        self.brokers.join(&self.name)
    }

    /// A file or directory of this instance.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory().join(name)
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.path("log")
    }

    /// The directory of an installed program; `version` has the form `name-1.2.3`.
    pub(crate) fn software(&self, version: &str) -> PathBuf {
        self.brokers.join("software").join(version)
    }

    /// Waits until no other process changes this instance.
    pub(crate) fn lock(&self) -> Result<File> {
        lock(&self.brokers.join(format!("{}.lock", self.name)))
    }

    /// Writes a file of this instance, and makes its directory.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.path(name);
        create_directory(&self.directory())?;
        fs::write(&path, text).map_err(Error::file("write", &path))?;
        Ok(path)
    }

    /// An error at this point says more than the server's own log would.
    pub(crate) fn expect_free_port(&self) -> Result<()> {
        let port = self.ports.main;
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::PortTaken { server: self.name.clone(), port }),
        }
    }
}

/// The ports of one instance. Not every kind uses all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) main: u16,
    pub(crate) http: u16,
    pub(crate) tls: u16,
    /// The port that asks for credentials.
    pub(crate) login: u16,
    /// The port for the server's own parts; the port above it is used too.
    pub(crate) inner: u16,
    pub(crate) proxied: u16,
    /// Left free for a proxy.
    pub(crate) advertised: u16,
}

impl Requester for Instance {
    fn name(&self) -> &str {
        &self.name
    }

    fn report(&self, line: &str) {
        Self::report(self, line);
    }
}

impl Ports {
    /// The ports of the standing instance.
    pub(crate) fn standing(kind: Kind) -> Self {
        match kind {
            Kind::Artemis => Self::from(16672),
            Kind::Kafka => Self::from(19092),
            Kind::Pulsar => Self { http: 18080, ..Self::from(16650) },
            Kind::Rabbitmq => Self::from(17672),
            Kind::Nats => Self { http: 18222, ..Self::from(14222) },
            Kind::Postgres => Self::from(15432),
        }
    }

    /// The ports of the standing cluster's nodes, for the kinds that have a cluster.
    pub(crate) fn cluster(kind: Kind) -> Vec<Self> {
        match kind {
            Kind::Kafka => [20092, 20102, 20112].map(Self::from).to_vec(),
            Kind::Nats => [15222, 15232, 15242].map(Self::from).to_vec(),
            Kind::Artemis | Kind::Pulsar | Kind::Rabbitmq | Kind::Postgres => Vec::new(),
        }
    }

    /// Eight consecutive ports.
    pub(crate) fn from(first: u16) -> Self {
        Self {
            main: first,
            http: first + 1,
            tls: first + 2,
            login: first + 3,
            proxied: first + 4,
            advertised: first + 5,
            inner: first + 6,
        }
    }
}

/// The directory of all instances and their software.
pub(crate) fn brokers() -> PathBuf {
    target().join("brokers")
}

/// Cargo's target directory, from the test of any crate.
fn target() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(3).unwrap_or(Path::new("."));
    root.join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

pub(crate) fn create_directory(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(Error::file("create", path))
}

/// Waits for the lock; it is freed when the file is dropped, and when this process ends.
pub(crate) fn lock(path: &Path) -> Result<File> {
    if let Some(directory) = path.parent() {
        create_directory(directory)?;
    }
    let file = File::create(path).map_err(Error::file("open", path))?;
    file.lock().map_err(Error::file("lock", path))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_standing_instances_share_a_port() {
        let mut seen = HashSet::new();
        let all = Kind::all().into_iter().flat_map(|kind| [vec![Ports::standing(kind)], Ports::cluster(kind)].concat());
        for Ports { main, http, tls, login, inner, proxied, advertised } in all {
            for port in [main, http, tls, login, inner, inner + 1, proxied, advertised] {
                assert!(seen.insert(port), "port {port} has two users");
            }
        }
    }
}

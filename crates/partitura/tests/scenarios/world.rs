use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use partitura_servers::{Kind, Server};

use crate::problem::Problem;

/// The name of the broker that needs no server.
pub(crate) const EMBEDDED: &str = "embedded";

/// The servers, the directory and the names of one run.
#[derive(Debug)]
pub(crate) struct World {
    /// `None`: each process brings its own.
    pub(crate) broker: Option<Server>,
    pub(crate) orders: usize,
    store: Server,
    run: String,
    data: tempfile::TempDir,
}

impl World {
    pub(crate) fn create(broker: Option<Kind>, orders: usize) -> Result<Self, Problem> {
        let store = Server::private(Kind::Postgres, "scenario", 26_500);
        store.up()?;
        let broker = broker.map(|kind| Server::private(kind, "scenario", 26_600));
        if let Some(broker) = &broker {
            broker.up()?;
        }
        let run = format!("run{:x}", SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis());
        Ok(Self { broker, orders, store, run, data: tempfile::tempdir()? })
    }

    /// Gives the arguments of every process of this run.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let data = self.data.path().display().to_string();
        let mut arguments = vec!["--run".to_owned(), self.run.clone(), "--data".to_owned(), data];
        arguments.extend(["--store".to_owned(), self.store.url()]);
        if let Some(broker) = &self.broker {
            arguments.extend(["--broker".to_owned(), broker.url()]);
        }
        arguments
    }

    /// Gives the URLs of the broker and the store, if there is a broker to share.
    pub(crate) fn urls(&self) -> Option<(String, String)> {
        Some((self.broker.as_ref()?.url(), self.store.url()))
    }

    pub(crate) fn run(&self) -> &str {
        &self.run
    }

    pub(crate) fn data(&self) -> &Path {
        self.data.path()
    }

    /// How many orders the stockroom has heard of: each comes by there, and early.
    pub(crate) fn orders_begun(&self) -> usize {
        let ledger: PathBuf = self.data.path().join("ledger").join("stock.jsonl");
        let bytes = std::fs::read(ledger).unwrap_or_default();
        bytes.iter().filter(|byte| **byte == b'\n').count()
    }

    /// Kills the broker as a crash would, and starts it again with what it has on the disk.
    pub(crate) fn restart_broker(&self) -> Result<(), partitura_servers::Error> {
        match &self.broker {
            Some(broker) => broker.kill().and_then(|()| broker.start()),
            None => Ok(()),
        }
    }

    /// Does the same to the store.
    pub(crate) fn restart_store(&self) -> Result<(), partitura_servers::Error> {
        self.store.kill().and_then(|()| self.store.start())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for server in self.broker.iter().chain([&self.store]) {
            if let Err(error) = server.down(true) {
                eprintln!("{error}");
            }
        }
    }
}

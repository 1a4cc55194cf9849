//! The conformance suite on the embedded broker, in memory and in files.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use partitura_broker::{Broker, ErrorKind, Result};
use partitura_conformance::{Harness, Processes};
use partitura_embedded::{Embedded, Options};

/// The environment variable by which a process of the suite finds the files.
const DIRECTORY: &str = "PARTITURA_CONFORMANCE_EMBEDDED";

partitura_conformance::main!(InMemory::default(), InFiles::new());

/// In memory. Nothing outlives the process, so there is nothing to kill.
#[derive(Debug, Default)]
struct InMemory {
    open: Open,
}

#[async_trait::async_trait]
impl Harness for InMemory {
    fn broker(&self) -> &str {
        "embedded"
    }

    fn variant(&self) -> &str {
        "memory"
    }

    async fn connect(&self, namespace: &str) -> Result<Arc<dyn Broker>> {
        self.open.get(namespace, || Embedded::memory(Options::default())).await
    }

    fn lives_in_its_client(&self) -> bool {
        true
    }

    fn tries_mutants(&self) -> bool {
        true
    }
}

/// In files, one directory for each namespace. The broker is in the process that has the file open, and dies with it.
#[derive(Debug)]
struct InFiles {
    open: Open,
    root: PathBuf,
    /// Removes the files at the end; absent in a process that the suite started.
    _own: Option<tempfile::TempDir>,
}

impl InFiles {
    fn new() -> Self {
        let given = std::env::var_os(DIRECTORY).map(PathBuf::from);
        let own = given.is_none().then(|| tempfile::tempdir().expect("a directory for the files"));
        let root = own.as_ref().map(|own| own.path().to_owned()).or(given).unwrap_or_default();
        Self { open: Open::default(), root, _own: own }
    }
}

#[async_trait::async_trait]
impl Harness for InFiles {
    fn broker(&self) -> &str {
        "embedded"
    }

    fn variant(&self) -> &str {
        "file"
    }

    async fn connect(&self, namespace: &str) -> Result<Arc<dyn Broker>> {
        self.open.get(namespace, || Embedded::open(self.root.join(namespace), Options::default())).await
    }

    fn lives_in_its_client(&self) -> bool {
        true
    }

    fn processes(&self) -> Option<&dyn Processes> {
        Some(self)
    }

    fn tries_mutants(&self) -> bool {
        true
    }
}

impl Processes for InFiles {
    fn environment(&self) -> Vec<(String, String)> {
        vec![(DIRECTORY.into(), self.root.display().to_string())]
    }
}

/// The brokers that are open: to connect again is to have the same one.
#[derive(Debug, Default)]
struct Open(Mutex<HashMap<String, Weak<Embedded>>>);

impl Open {
    async fn get(&self, namespace: &str, open: impl Fn() -> Result<Embedded>) -> Result<Arc<dyn Broker>> {
        let began = Instant::now();
        loop {
            {
                let mut brokers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(broker) = brokers.get(namespace).and_then(Weak::upgrade) {
                    return Ok(broker);
                }
                match open() {
                    // A broker that was just dropped still writes its accepted messages.
                    Err(error) if error.kind() == ErrorKind::Busy && began.elapsed() < Duration::from_secs(20) => {}
                    opened => {
                        let broker = Arc::new(opened?);
                        brokers.insert(namespace.to_owned(), Arc::downgrade(&broker));
                        return Ok(broker);
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

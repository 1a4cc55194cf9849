//! A harness over a broker in its client's process: processes are started and killed, and the broker with them.

use std::path::PathBuf;
use std::sync::Arc;

use partitura_broker::{Broker, Result};
use partitura_conformance::{Harness, Processes};
use partitura_embedded::{Embedded, Options};

struct InFiles(PathBuf);

#[async_trait::async_trait]
impl Harness for InFiles {
    fn broker(&self) -> &str {
        "outside"
    }

    async fn connect(&self, namespace: &str) -> Result<Arc<dyn Broker>> {
        Ok(Arc::new(Embedded::open(self.0.join(namespace), Options::default())?))
    }

    fn lives_in_its_client(&self) -> bool {
        true
    }

    fn processes(&self) -> Option<&dyn Processes> {
        Some(self)
    }
}

impl Processes for InFiles {}

partitura_conformance::main!(InFiles(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("outside")));

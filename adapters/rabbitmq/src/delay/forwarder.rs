//! Publishes the messages that have fallen due.

use std::sync::Arc;
use std::time::Duration;

use partitura_adapter_kit::Backoff;
use partitura_broker::{ErrorKind, ProducerOptions, Result, TopicName, telemetry};
use tokio::time::sleep;

use super::due::DueMessages;
use super::recovery::{self, Recovery};
use crate::client::{Connector, uncancelled};
use crate::core::{Core, SYSTEM};
use crate::publisher::Publisher;

/// The waits after a lost connection.
const RECONNECT_BACKOFF: Backoff = Backoff { first: Duration::from_millis(50), longest: Duration::from_secs(2) };
/// The waits after an error that only an operator can change.
const REFUSED_BACKOFF: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(60) };

/// Takes the messages of a topic that may be due and publishes them: those that are due to the topic, the others to
/// their next wait queue. Runs in every consumer of the topic, until it is aborted or the broker is closed. The
/// broker serves one of them at a time.
pub(crate) async fn forward(core: Arc<Core>, recovery: Arc<Recovery>, connector: Arc<Connector>, topic: TopicName) {
    let publisher = Arc::new(Publisher::start(core.clone(), &ProducerOptions::default()));
    let mut attempt = 0;
    loop {
        let error = match open(&core, &recovery, &connector, &topic).await {
            Ok(due) => {
                attempt = 0;
                due.forward(&publisher, &connector).await
            }
            Err(error) => error,
        };
        if error.kind() == ErrorKind::Closed {
            return;
        }
        attempt += 1;
        telemetry::reconnecting(SYSTEM, &error, attempt);
        let backoff = if error.is_retryable() { RECONNECT_BACKOFF } else { REFUSED_BACKOFF };
        sleep(backoff.delay(attempt, 0)).await;
    }
}

/// Consumes the `due` queue of a topic. If an operator has deleted it, it is declared again.
async fn open(core: &Arc<Core>, recovery: &Recovery, connector: &Connector, topic: &TopicName) -> Result<DueMessages> {
    let known = core.topics.get(topic, "forward").await?;
    match DueMessages::open(core, connector, &known).await {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            tracing::warn!(%topic, "declaring the queue of due messages again; an operator has deleted it");
            let known = uncancelled(recovery::restore(core.clone(), topic.clone())).await?;
            // Messages that fell due meanwhile are in the queue of undeliverable ones.
            recovery.request();
            DueMessages::open(core, connector, &known).await
        }
        opened => opened,
    }
}

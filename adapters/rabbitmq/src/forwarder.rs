//! Publishes what has fallen due.

use std::sync::Arc;
use std::time::Duration;

use partitura_adapter_kit::Backoff;
use partitura_broker::{ErrorKind, ProducerOptions, Result, TopicName, telemetry};
use tokio::time::sleep;

use crate::SYSTEM;
use crate::core::Core;
use crate::due::Due;
use crate::link::{Link, uncancelled};
use crate::publisher::Publisher;
use crate::salvage;

/// How soon after a lost connection.
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(50), longest: Duration::from_secs(2) };
/// How soon is asked again for what only an operator can change.
const REFUSED: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(60) };

/// Takes what may be due of a topic and publishes it: what is due to the topic, the rest to its next room. Runs in whoever
/// consumes the topic, until it is aborted or the broker is closed; of all that run, the broker serves one.
pub(crate) async fn forward(core: Arc<Core>, link: Arc<Link>, topic: TopicName) {
    let publisher = Arc::new(Publisher::start(core.clone(), &ProducerOptions::default()));
    let mut attempt = 0;
    loop {
        let error = match open(&core, &link, &topic).await {
            Ok(due) => {
                attempt = 0;
                due.forward(&publisher, &link).await
            }
            Err(error) => error,
        };
        if error.kind() == ErrorKind::Closed {
            return;
        }
        attempt += 1;
        telemetry::reconnecting(SYSTEM, &error, attempt);
        let backoff = if error.is_retryable() { BACKOFF } else { REFUSED };
        sleep(backoff.delay(attempt, 0)).await;
    }
}

/// Begins to consume a topic's `due` queue, which somebody may have deleted.
async fn open(core: &Arc<Core>, link: &Link, topic: &TopicName) -> Result<Due> {
    let known = core.topics.get(topic, "forward").await?;
    match Due::open(core, link, &known).await {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            tracing::warn!(%topic, "the queue of what falls due is gone and is declared again; who deleted it?");
            let known = uncancelled(salvage::revive(core.clone(), topic.clone())).await?;
            // What fell due meanwhile is elsewhere.
            core.salvage.ask();
            Due::open(core, link, &known).await
        }
        opened => opened,
    }
}

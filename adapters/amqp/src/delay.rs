//! Messages that are not due yet.
//!
//! The broker keeps a message back until the moment in its annotation. But when that has come, it puts the message
//! before all others of its queue. So delayed messages of a topic wait in a queue of their own, `due`. The consumers of
//! the topic forward them from there, one consumer at a time: those that are due by our clock, too, in the order of
//! their moments.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fe2o3_amqp::link::delivery::DeliveryInfo;
use partitura_adapter_kit::Backoff;
use partitura_broker::{
    Clock, CorrectedClock, Error, ErrorKind, ProducerOptions, Result, Timestamp, TopicName, telemetry,
};
use tokio::time::{Instant, sleep, sleep_until};

use crate::client::{Connector, uncancelled};
use crate::core::{Core, SYSTEM};
use crate::names;
use crate::publisher::{Publication, Publisher};
use crate::reader::{Attached, Fetched, Reader, Source};
use crate::wire;

/// The largest delay: ten years.
pub(crate) const MAX_DELAY: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);
/// How late the 99th percentile of delayed messages is with little load.
pub(crate) const LATENESS: Duration = Duration::from_millis(100);

const FORWARD: &str = "forward";
/// The largest number of messages here.
const MAX_MESSAGES: usize = 4_096;
/// The largest number of messages that are published at once.
const MAX_BATCH: usize = 1_024;
/// The waits after a lost connection.
const RECONNECT_BACKOFF: Backoff = Backoff { first: Duration::from_millis(50), longest: Duration::from_secs(2) };
/// The waits after an error that only an operator can change.
const REFUSED_BACKOFF: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(60) };
/// The waits before messages are published again that the broker did not take.
const PUBLISH_BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(10) };

/// Publishes the messages of a topic that fall due. Runs in every consumer of the topic, until it is aborted or the
/// broker is closed. The broker serves one of them at a time.
pub(crate) async fn forward(core: Arc<Core>, connector: Arc<Connector>, topic: TopicName) {
    let publisher = Publisher::start(core.clone(), &ProducerOptions::default());
    let mut attempt = 0;
    loop {
        let error = match open(&connector, &topic).await {
            Ok(reader) => {
                attempt = 0;
                let waiting = BTreeMap::new();
                let due = DueMessages { topic: &topic, clock: core.clock.clone(), reader, waiting, arrivals: 0 };
                due.forward(&publisher).await
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

async fn open(connector: &Arc<Connector>, topic: &TopicName) -> Result<Reader> {
    let due = names::due(topic);
    let source = Source { address: due.clone(), queue: due, ahead: MAX_MESSAGES, marks: false };
    Ok(uncancelled(Attached::attach(connector.clone(), FORWARD, source)).await?.read())
}

/// The messages of a topic that may be due, in the memory of its forwarder.
struct DueMessages<'a> {
    topic: &'a TopicName,
    clock: CorrectedClock,
    reader: Reader,
    /// By moment, and of one moment in the order in which they came: that of publishing.
    waiting: BTreeMap<(Timestamp, u64), Waiting>,
    arrivals: u64,
}

struct Waiting {
    info: DeliveryInfo,
    publication: Publication,
}

impl DueMessages<'_> {
    /// Forwards until the link is lost.
    async fn forward(mut self, publisher: &Publisher) -> Error {
        let mut failures = 0;
        loop {
            let next = self.waiting.first_key_value().map(|((due, _), _)| due.since(self.clock.now()));
            let wake = next.map(|wait| Instant::now() + wait);
            tokio::select! {
                biased;
                fetched = self.reader.next(MAX_BATCH) => match fetched {
                    Ok(fetched) => fetched.into_iter().for_each(|fetched| self.add(fetched)),
                    Err(error) => return error,
                },
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {
                    let Err(error) = self.publish(publisher).await else {
                        failures = 0;
                        continue;
                    };
                    failures += 1;
                    let (pause, topic) = (PUBLISH_BACKOFF.delay(failures, 0), self.topic);
                    tracing::warn!(%error, %topic, ?pause, "publishing due messages again after a pause");
                    sleep(pause).await;
                }
            }
        }
    }

    fn add(&mut self, Fetched { message, failures, info }: Fetched) {
        let wire::Received { message, is_repeated, .. } = wire::received(self.topic.clone(), message);
        // A redelivered message may have been forwarded by another forwarder that could not settle it any more.
        let publication = Publication { is_repeated: is_repeated || failures > 0, message };
        let due = publication.message.not_before.unwrap_or_else(|| self.clock.now());
        self.waiting.insert((due, self.arrivals), Waiting { info, publication });
        self.arrivals += 1;
    }

    /// Publishes the messages that are due, and settles them. What was not published stays.
    async fn publish(&mut self, publisher: &Publisher) -> Result<()> {
        let now = self.clock.now();
        let mut due = Vec::new();
        while due.len() < MAX_BATCH
            && let Some(first) = self.waiting.first_entry()
            && first.key().0 <= now
        {
            due.push(first.remove_entry());
        }
        let copies = due.iter().map(|(_, waiting)| waiting.publication.clone()).collect();
        let results = publisher.publish(copies).await;
        let (mut done, mut failed) = (Vec::with_capacity(due.len()), Ok(()));
        for ((key, mut waiting), result) in due.into_iter().zip(results) {
            match result {
                Ok(_) => done.push(waiting.info),
                Err(error) => {
                    failed = Err(error);
                    waiting.publication.is_repeated = true;
                    self.waiting.insert(key, waiting);
                }
            }
        }
        self.reader.settle(done);
        failed
    }
}

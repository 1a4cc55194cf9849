//! Messages that are not due yet.
//!
//! Artemis keeps a message back until the moment in its annotation. But when that has come, it puts the message before
//! all others of its queue. So delayed messages of a topic wait in a queue of their own, `due`. The consumers of the
//! topic forward them from there, one consumer at a time: those that are due by our clock, too, in the order of their
//! moments.
//!
//! If a busy broker hands several of them out late, the latest come first. So a forwarder waits for a short silence
//! before it publishes.
//!
//! Solace keeps nothing back. There the forwarder holds the messages until they are due. If it has as many, or as many
//! bytes, as it may hold, it sends the latest to the end of the queue again, so that others come.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use fe2o3_amqp::link::delivery::DeliveryInfo;
use futures::FutureExt;
use futures::future::FusedFuture;
use partitura_adapter_kit::Backoff;
use partitura_broker::{
    Clock, CorrectedClock, Error, ErrorKind, Limits, ProducerOptions, Result, Timestamp, TopicName, telemetry,
};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::client::{Connector, uncancelled};
use crate::core::{Core, SYSTEM};
use crate::profile::{Due, Source};
use crate::publisher::{Publication, Publisher};
use crate::reader::{Ahead, Attached, Fetched, Reader};
use crate::wire;

const FORWARD: &str = "forward";
/// The largest number of messages here.
const MAX_MESSAGES: usize = 4_096;
/// The largest number of their bytes. While they are published, the client has them a second time.
const MAX_BYTES: usize = 64 << 20;
/// The largest number of messages that are published at once.
const MAX_BATCH: usize = 1_024;
/// The largest number of bytes that go to the end of the queue at once.
const MAX_ROTATED: usize = MAX_BYTES / 4;
/// The interval in which messages go to the end of the queue, if there are more than a forwarder may hold.
const ROTATION: Duration = Duration::from_secs(1);
/// The silence after which no message is expected that is due before those that are here.
const SILENCE: Duration = Duration::from_millis(10);
/// The longest wait for a silence.
const NO_SILENCE: Duration = Duration::from_millis(60);
/// The waits after a lost connection.
const RECONNECT_BACKOFF: Backoff = Backoff { first: Duration::from_millis(50), longest: Duration::from_secs(2) };
/// The waits after an error that only an operator can change.
const REFUSED_BACKOFF: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(60) };
/// The waits while another forwarder has the queue. If that dies, this is how long due messages wait.
const STANDBY_BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(4) };
/// The waits before messages are published again that the broker did not take.
const PUBLISH_BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(10) };

/// Publishes the messages of a topic that fall due. Runs in every consumer of the topic, until `stop` is dropped or the
/// broker is closed. The broker serves one of them at a time.
///
/// It is never dropped between publishing messages and settling them: the next forwarder would publish them again, and
/// not know it.
pub(crate) async fn forward(
    core: Arc<Core>,
    connector: Arc<Connector>,
    topic: TopicName,
    due: Due,
    mut stop: watch::Receiver<()>,
) {
    let _guard = core.publishers.enter();
    let publisher = Publisher::start(core.clone(), &ProducerOptions::default());
    let mut attempt = 0;
    // The messages that this process may have forwarded before it lost its link.
    let mut doubted = 0;
    let stopped = async {
        tokio::select! {
            _ = stop.changed() => {}
            () = core.client.closed() => {}
        }
    };
    let mut stopped = pin!(stopped.fuse());
    loop {
        let opened = tokio::select! {
            biased;
            () = &mut stopped => return,
            opened = open(&core, &connector, &due.source) => opened,
        };
        let error = match opened {
            Ok(reader) => {
                attempt = 0;
                let waiting = DueMessages {
                    topic: &topic,
                    clock: core.clock.clone(),
                    reader,
                    waiting: BTreeMap::new(),
                    bytes: 0,
                    largest: largest(&core),
                    arrivals: 0,
                    doubted,
                    burst: None,
                    rotated: Instant::now(),
                };
                match waiting.forward(&publisher, due.keeps_back, &mut stopped).await {
                    Ok(()) => return,
                    // It was stopped, and could not give its messages back: its link is lost.
                    Err(_) if stopped.is_terminated() => return,
                    Err(error) => {
                        doubted = MAX_MESSAGES;
                        error
                    }
                }
            }
            Err(error) => error,
        };
        if error.kind() == ErrorKind::Closed {
            return;
        }
        attempt += 1;
        // That another has the queue is as it should be.
        if error.kind() != ErrorKind::Busy {
            telemetry::reconnecting(SYSTEM, &error, attempt);
        }
        tokio::select! {
            () = &mut stopped => return,
            () = sleep(backoff_after(&error).delay(attempt, 0)) => {}
        }
    }
}

fn backoff_after(error: &Error) -> Backoff {
    match error.kind() {
        ErrorKind::Busy => STANDBY_BACKOFF,
        _ if error.is_retryable() => RECONNECT_BACKOFF,
        _ => REFUSED_BACKOFF,
    }
}

async fn open(core: &Core, connector: &Arc<Connector>, source: &Source) -> Result<Reader> {
    let ahead = Ahead { messages: MAX_MESSAGES, bytes: Some((MAX_BYTES, largest(core))) };
    let attaching = Attached::attach(connector.clone(), FORWARD, source.clone(), ahead);
    Ok(uncancelled(attaching).await?.read())
}

/// Bytes of the largest message.
fn largest(core: &Core) -> usize {
    let Limits { payload, key, header_bytes, .. } = core.capabilities.limits;
    payload + key + header_bytes
}

/// The messages of a topic that may be due, in the memory of its forwarder.
struct DueMessages<'a> {
    topic: &'a TopicName,
    clock: CorrectedClock,
    reader: Reader,
    /// By moment, and of one moment in the order in which they came: that of publishing.
    waiting: BTreeMap<Place, Waiting>,
    /// Their bytes.
    bytes: usize,
    /// Bytes of the largest message that may come.
    largest: usize,
    arrivals: u64,
    /// The number of messages to come that may have been forwarded before.
    doubted: usize,
    /// The moments of the first and the last arrival since messages were published.
    burst: Option<(Instant, Instant)>,
    /// The moment of the last rotation.
    rotated: Instant,
}

/// The moment of a message, and the number of its arrival.
type Place = (Timestamp, u64);

struct Waiting {
    info: DeliveryInfo,
    size: usize,
    publication: Publication,
}

impl DueMessages<'_> {
    /// Forwards until it is stopped, or the link is lost.
    async fn forward(
        mut self,
        publisher: &Publisher,
        keeps_back: bool,
        stopped: &mut (impl FusedFuture<Output = ()> + Unpin),
    ) -> Result<()> {
        let mut failures = 0;
        loop {
            let next = self.waiting.first_key_value().map(|((due, _), _)| due.since(self.clock.now()));
            let wake = next.map(|wait| (Instant::now() + wait).max(self.calm()));
            let rotation = (!keeps_back && self.is_full()).then(|| self.rotated + ROTATION);
            let moment = wake.into_iter().chain(rotation).min();
            tokio::select! {
                biased;
                () = &mut *stopped => return self.reader.release().await,
                fetched = self.reader.next(MAX_BATCH) => {
                    fetched?.into_iter().for_each(|fetched| self.add(fetched));
                    continue;
                }
                () = sleep_until(moment.unwrap_or_else(Instant::now)), if moment.is_some() => {}
            }
            let due = self.take_due();
            let published =
                if due.is_empty() { self.rotate(publisher).await } else { self.publish(publisher, due).await };
            let Err(error) = published else {
                failures = 0;
                continue;
            };
            failures += 1;
            let (pause, topic) = (PUBLISH_BACKOFF.delay(failures, 0), self.topic);
            tracing::warn!(%error, %topic, ?pause, "publishing due messages again after a pause");
            tokio::select! {
                () = &mut *stopped => return self.reader.release().await,
                () = sleep(pause) => {}
            }
        }
    }

    /// The moment from which no earlier message is expected.
    fn calm(&self) -> Instant {
        self.burst.map_or_else(Instant::now, |(first, last)| (last + SILENCE).min(first + NO_SILENCE))
    }

    /// Whether the broker sends nothing more before some are settled.
    fn is_full(&self) -> bool {
        self.waiting.len() >= MAX_MESSAGES || self.bytes + self.largest > MAX_BYTES
    }

    fn insert(&mut self, place: Place, waiting: Waiting) {
        self.bytes += waiting.size;
        self.waiting.insert(place, waiting);
    }

    fn add(&mut self, Fetched { message, failures, info, size }: Fetched) {
        let wire::Received { message, is_repeated, .. } = wire::received(self.topic.clone(), message);
        // A redelivered message may have been forwarded by another forwarder that could not settle it any more.
        let now = Instant::now();
        self.burst = Some((self.burst.map_or(now, |(first, _)| first), now));
        let is_doubted = self.doubted > 0;
        self.doubted = self.doubted.saturating_sub(1);
        let publication = Publication { is_repeated: is_repeated || failures > 0 || is_doubted, message };
        let due = publication.message.not_before.unwrap_or_else(|| self.clock.now());
        self.insert((due, self.arrivals), Waiting { info, size, publication });
        self.arrivals += 1;
    }

    /// Takes the messages that are due.
    fn take_due(&mut self) -> Vec<(Place, Waiting)> {
        let now = self.clock.now();
        let mut due = Vec::new();
        while due.len() < MAX_BATCH
            && let Some(first) = self.waiting.first_entry()
            && first.key().0 <= now
        {
            due.push(first.remove_entry());
        }
        self.bytes -= due.iter().map(|(_, waiting)| waiting.size).sum::<usize>();
        due
    }

    /// Sends the messages that are due last to the end of the queue: publishing what is not due does that.
    async fn rotate(&mut self, publisher: &Publisher) -> Result<()> {
        self.rotated = Instant::now();
        if !self.is_full() {
            return Ok(());
        }
        let (mut latest, before) = (Vec::new(), self.bytes);
        while latest.len() < MAX_BATCH
            && before - self.bytes < MAX_ROTATED
            && let Some(last) = self.waiting.pop_last()
        {
            self.bytes -= last.1.size;
            latest.push(last);
        }
        latest.reverse();
        self.publish(publisher, latest).await
    }

    /// Publishes messages, and settles them. Messages that were not published stay.
    async fn publish(&mut self, publisher: &Publisher, due: Vec<(Place, Waiting)>) -> Result<()> {
        self.burst = None;
        let copies = due.iter().map(|(_, waiting)| waiting.publication.clone()).collect();
        let results = publisher.publish(copies).await;
        let (mut done, mut failed) = (Vec::with_capacity(due.len()), Ok(()));
        for ((place, mut waiting), result) in due.into_iter().zip(results) {
            match result {
                Ok(_) => done.push(waiting.info),
                Err(error) => {
                    failed = Err(error);
                    waiting.publication.is_repeated = true;
                    self.insert(place, waiting);
                }
            }
        }
        self.reader.settle(done);
        failed
    }
}

//! Reads partitions without a group, on a thread of its own.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use partitura_broker::telemetry::TARGET;
use partitura_broker::{Error, ErrorKind, Result};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::message::BorrowedMessage;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::mpsc;

use crate::callbacks::Callbacks;
use crate::client::REQUEST_TIMEOUT;
use crate::core::Core;
use crate::ready::once_ready;
use crate::stop::Stop;
use crate::watch::Watched;
use crate::{error, names};

/// The longest wait for a record. A stop is noticed after this time.
const TICK: Duration = Duration::from_millis(100);
/// The largest number of records in a batch, and of batches that wait to be taken.
const BATCH: usize = 500;
const BATCHES: usize = 4;

/// The place where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// The end of the topic: the reader gets the records that are written from now on.
    Now,
    /// This offset, or the first one behind it that still exists.
    Offset(i64),
}

/// A reader of partitions. Dropping it ends the reading.
#[derive(Debug)]
pub(crate) struct Reader<T> {
    records: mpsc::Receiver<Vec<T>>,
    stop: Arc<Stop>,
}

impl<T: Send + 'static> Reader<T> {
    /// Begins to read these partitions of a topic. When this returns, the place where it begins is fixed.
    pub(crate) async fn open(
        core: &Arc<Core>,
        topic: &str,
        partitions: impl IntoIterator<Item = u32>,
        start: Start,
        read: impl Fn(&BorrowedMessage<'_>) -> Option<T> + Send + 'static,
    ) -> Result<Self> {
        let (config, stop, watched) = (core.target().reader_config(), Stop::new(), core.topics.watch(topic));
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(topic, names::partition(partition));
        }
        let (sender, records) = mpsc::channel(BATCHES);
        let stopped = stop.clone();
        let open = move || {
            let failed = |source| error::error("subscribe", source);
            let consumer = BaseConsumer::from_config_and_context(&config, Callbacks::default()).map_err(failed)?;
            begin(&consumer, list, start).map_err(failed)?;
            let reading = move || run(&consumer, &watched, &sender, &stopped, read);
            let thread = thread::Builder::new().name("kafka-reader".into()).spawn(reading);
            thread.map(drop).map_err(|source| error::thread("subscribe", source))
        };
        let reader = Self { records, stop };
        core.stop_on_close(&reader.stop);
        core.client.blocking("subscribe", open).await??;
        Ok(reader)
    }

    /// Waits for records.
    ///
    /// # Errors
    /// `Closed` after the connection was closed.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn next(&mut self) -> Result<Vec<T>> {
        tokio::select! {
            biased;
            () = self.stop.stopped() => Err(error::closed("consume")),
            records = self.records.recv() => {
                records.ok_or_else(|| Error::new(ErrorKind::Disconnected, "consume", "the reader ended"))
            }
        }
    }
}

impl<T> Drop for Reader<T> {
    fn drop(&mut self) {
        self.stop.stop();
    }
}

fn begin(consumer: &BaseConsumer<Callbacks>, mut list: TopicPartitionList, start: Start) -> KafkaResult<()> {
    match start {
        Start::Offset(offset) => list.set_all_offsets(Offset::Offset(offset))?,
        Start::Now => {
            list.set_all_offsets(Offset::End)?;
            list = once_ready(|| {
                let ends = consumer.offsets_for_times(list.clone(), REQUEST_TIMEOUT)?;
                ends.elements().iter().try_for_each(|element| element.error())?;
                Ok(ends)
            })?;
        }
    }
    consumer.assign(&list)
}

fn run<T>(
    consumer: &BaseConsumer<Callbacks>,
    watched: &Watched,
    sender: &mpsc::Sender<Vec<T>>,
    stop: &Stop,
    read: impl Fn(&BorrowedMessage<'_>) -> Option<T>,
) {
    consumer.context().close();
    let mut birth = watched.birth();
    while !stop.is_stopped() {
        if birth.differs(watched.birth())
            && let Err(error) = consumer.assignment().and_then(|list| begin(consumer, list, Start::Offset(0)))
        {
            tracing::warn!(target: TARGET, %error, "beginning again with a topic that was created again");
        }
        birth = watched.birth();
        let (mut batch, mut wait) = (Vec::new(), TICK);
        while batch.len() < BATCH {
            match consumer.poll(wait) {
                Some(Ok(record)) => batch.extend(read(&record)),
                // The client reconnects by itself.
                Some(Err(error)) => tracing::debug!(target: TARGET, %error, "retrying to read"),
                None => break,
            }
            wait = Duration::ZERO;
        }
        // A full channel holds up the reading: further records wait in the brokers.
        if !batch.is_empty() && sender.blocking_send(batch).is_err() {
            return;
        }
    }
}

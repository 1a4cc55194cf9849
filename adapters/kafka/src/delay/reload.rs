//! Reads the contents of waiting messages again.

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use partitura_broker::telemetry::TARGET;
use partitura_broker::{Message, TopicName};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::index::Due;
use crate::callbacks::Callbacks;
use crate::stop::Stop;
use crate::{names, wire};

/// The longest wait for the next record.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest wait for an event.
const TICK: Duration = Duration::from_millis(100);
/// The bytes up to which reading is cheaper than skipping, which costs a request.
const SKIP: usize = 256 << 10;

/// The contents to be read.
pub(super) struct Request {
    pub(super) topic: TopicName,
    pub(super) timers: String,
    pub(super) partition: u32,
    /// Ascending.
    pub(super) wanted: Vec<Due>,
    /// The mean size of a message.
    pub(super) mean: usize,
}

/// The contents that were found.
pub(super) struct Answer {
    pub(super) partition: u32,
    pub(super) contents: Vec<(Due, Message)>,
    /// The messages that were published, or replaced by a later record.
    pub(super) gone: Vec<Due>,
    pub(super) up_to: KafkaResult<Due>,
}

/// Reads on a thread of its own, so that messages that are due meanwhile do not wait.
pub(super) fn start(
    config: ClientConfig,
    request: Request,
    stop: Arc<Stop>,
    answers: mpsc::Sender<Answer>,
) -> std::io::Result<()> {
    let read = move || {
        let (partition, last) = (request.partition, request.wanted.last().copied().unwrap_or_default());
        let (mut contents, mut gone) = (Vec::new(), Vec::new());
        let done = read(config, &request, &stop, &mut contents, &mut gone);
        if let Err(error) = &done {
            tracing::warn!(target: TARGET, topic = %request.topic, partition, %error, "reading delayed messages again");
        }
        // If the forwarder has ended, another process owns the messages.
        drop(answers.send(Answer { partition, contents, gone, up_to: done.map(|()| last) }));
    };
    thread::Builder::new().name("kafka-reload".into()).spawn(read).map(drop)
}

fn read(
    mut config: ClientConfig,
    request: &Request,
    stop: &Stop,
    contents: &mut Vec<(Due, Message)>,
    gone: &mut Vec<Due>,
) -> KafkaResult<()> {
    let (timers, partition) = (request.timers.as_str(), names::partition(request.partition));
    let mut wanted = request.wanted.clone();
    wanted.sort_unstable_by_key(|due| due.offset);
    let mut wanted = wanted.into_iter().peekable();
    let skip = i64::try_from(SKIP / request.mean.max(1)).unwrap_or(i64::MAX).max(1);
    config.set("enable.partition.eof", "true").set("fetch.message.max.bytes", SKIP.to_string());
    let consumer: BaseConsumer<Callbacks> = BaseConsumer::from_config_and_context(&config, Callbacks::default())?;
    consumer.context().close();
    let mut start = TopicPartitionList::new();
    start.add_partition_offset(timers, partition, Offset::Offset(wanted.peek().map_or(0, |due| due.offset)))?;
    consumer.assign(&start)?;
    drop(start);
    let mut last_record = Instant::now();
    while let Some(Due { offset: next, .. }) = wanted.peek().copied() {
        if stop.is_stopped() || last_record.elapsed() > READ_TIMEOUT {
            return Err(KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut));
        }
        match consumer.poll(TICK) {
            Some(Ok(record)) => {
                last_record = Instant::now();
                let offset = record.offset();
                while let Some(due) = wanted.next_if(|wanted| wanted.offset < offset) {
                    gone.push(due);
                }
                if let Some(due) = wanted.next_if(|wanted| wanted.offset == offset) {
                    match record.payload() {
                        Some(_) => contents.push((due, wire::delayed_message(&request.topic, &record))),
                        None => gone.push(due),
                    }
                }
                if let Some(next) = wanted.peek().filter(|next| next.offset > offset + skip) {
                    consumer.seek(timers, partition, Offset::Offset(next.offset), READ_TIMEOUT)?;
                }
            }
            // The partition ends before these messages.
            Some(Err(KafkaError::PartitionEOF(_))) => gone.extend(wanted.by_ref()),
            Some(Err(error)) => tracing::debug!(target: TARGET, %error, next, "reading delayed messages again"),
            None => {}
        }
    }
    Ok(())
}

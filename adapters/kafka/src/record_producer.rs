//! The one librdkafka producer of a connection, and the thread that reports the outcome of its records.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use partitura_broker::Result;
use partitura_broker::telemetry::TARGET;
use rdkafka::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, NoCustomPartitioner, Producer, ProducerContext};

use crate::first_record::{FirstRecords, Queue, Sent};
use crate::health::{self, Health};
use crate::options::Target;
use crate::record::{Confirm, MAX_RECORD, Record, Refused};
use crate::{error, names};

/// The longest wait for an event. Events wake the thread at once; a stop is noticed after this time. rdkafka spins
/// for the last millisecond of a wait, so waits are long.
const TICK: Duration = Duration::from_millis(250);
/// The time in which accepted records have to be written when the connection is closed.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends records. There is one on a connection, so that the order of calls is the order of a partition.
pub(crate) struct RecordProducer {
    producer: Arc<BaseProducer<Reports>>,
    stop: Arc<AtomicBool>,
}

pub(crate) struct Reports {
    health: Arc<Health>,
    first_records: FirstRecords,
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        health::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.health.error(error, reason);
    }
}

impl ProducerContext<NoCustomPartitioner> for Reports {
    type DeliveryOpaque = Box<Sent>;

    fn delivery(&self, result: &DeliveryResult<'_>, sent: Self::DeliveryOpaque) {
        let result = result.as_ref().map(drop).map_err(|(error, _)| {
            let code = error.rdkafka_error_code();
            self.health.note(code);
            code.unwrap_or(RDKafkaErrorCode::Unknown)
        });
        if let Some(first) = &sent.first {
            self.first_records.confirmed(first, result.is_ok());
        }
        (sent.confirm)(result);
        self.first_records.unblock();
    }
}

impl RecordProducer {
    /// Starts a producer and its thread, which holds `keep` until everything is written.
    ///
    /// Records never time out in the client: it tries again, in order, for as long as the connection is open. A
    /// caller that stops waiting for a confirm may publish again. That copy comes after the first.
    pub(crate) fn start(target: &Target, health: Arc<Health>, keep: impl Send + 'static) -> Result<Self> {
        let mut config = target.config();
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("message.timeout.ms", "0")
            .set("linger.ms", "1")
            .set("message.max.bytes", MAX_RECORD.to_string());
        let config = target.finish(config);
        let reports = Reports { health, first_records: FirstRecords::default() };
        let producer = BaseProducer::from_config_and_context(&config, reports)
            .map_err(|source| error::error("connect", source))?;
        let (producer, stop) = (Arc::new(producer), Arc::new(AtomicBool::new(false)));
        let queue: Arc<dyn Queue> = producer.clone();
        first_records(&producer).serve(&queue);
        let (polled, stopped) = (producer.clone(), stop.clone());
        thread::Builder::new()
            .name("kafka-producer".into())
            .spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    polled.poll(TICK);
                    first_records(&polled).tick();
                }
                if let Err(error) = polled.flush(FLUSH_TIMEOUT) {
                    tracing::warn!(target: TARGET, %error, "closing with unconfirmed records");
                }
                drop(polled);
                drop(keep);
            })
            .map_err(|source| error::thread("connect", source))?;
        Ok(Self { producer, stop })
    }

    pub(crate) fn raw(&self) -> &Arc<BaseProducer<Reports>> {
        &self.producer
    }

    /// Takes note that the topic was created again. Its partitions do not know the producer.
    pub(crate) fn created_again(&self, topic: &str) {
        first_records(&self.producer).forget(topic);
    }

    /// Puts a record into the producer's queue, or behind the [first](FirstRecords) of its partition. Does not
    /// wait.
    ///
    /// Gives headers and `confirm` back if the record was not accepted.
    pub(crate) fn send(&self, record: Record<'_>, confirm: Confirm) -> Result<(), Refused> {
        first_records(&self.producer).send(&*self.producer, record, confirm)
    }
}

fn first_records(producer: &BaseProducer<Reports>) -> &FirstRecords {
    &producer.client().context().first_records
}

impl Queue for BaseProducer<Reports> {
    fn push(&self, record: Record<'_>, sent: Sent) -> Result<(), Refused> {
        let Record { topic, partition, key, payload, headers } = record;
        let mut base = BaseRecord::<[u8], [u8], _>::with_opaque_to(topic, Box::new(sent));
        base.partition = Some(names::partition(partition));
        base.key = key;
        base.payload = payload;
        base.headers = Some(headers);
        self.send(base).map_err(|(error, record)| Refused {
            code: error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail),
            headers: record.headers.unwrap_or_default(),
            confirm: record.delivery_opaque.confirm,
        })
    }
}

impl std::fmt::Debug for RecordProducer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordProducer").field("in_flight", &self.producer.in_flight_count()).finish_non_exhaustive()
    }
}

impl Drop for RecordProducer {
    fn drop(&mut self) {
        // The thread holds the last reference, since the end of librdkafka may take a while.
        self.stop.store(true, Ordering::Relaxed);
    }
}

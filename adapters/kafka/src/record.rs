//! A record on its way to Kafka.

use partitura_broker::Result;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::OwnedHeaders;

/// The largest batch of records in bytes: one message of a megabyte, with its key, its headers and the bytes that Kafka
/// adds.
pub(crate) const MAX_RECORD: usize = 2 << 20;

/// Reports the outcome of a record.
pub(crate) type Confirm = Box<dyn FnOnce(Result<(), RDKafkaErrorCode>) + Send + Sync>;

/// A record to be sent.
pub(crate) struct Record<'r> {
    pub(crate) topic: &'r str,
    pub(crate) partition: u32,
    pub(crate) key: Option<&'r [u8]>,
    /// `None` is a tombstone.
    pub(crate) payload: Option<&'r [u8]>,
    pub(crate) headers: OwnedHeaders,
}

/// A record that was not accepted.
pub(crate) struct Refused {
    pub(crate) code: RDKafkaErrorCode,
    pub(crate) headers: OwnedHeaders,
    pub(crate) confirm: Confirm,
}

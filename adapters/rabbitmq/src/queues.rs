//! Queues of the broker: requests that create them, and that ask for them.

use std::fmt::Display;

use lapin::Channel;
use lapin::options::{QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use partitura_broker::{Error, ErrorKind, Result};

use crate::client::{Connector, answer};
use crate::error::classify;

/// The number of times that a message may come back before the broker drops it. This is never, in practice. Without it,
/// 4.0 and later drop a message whose consumer died twenty times.
const DELIVERY_LIMIT: i64 = i32::MAX as i64;

/// A queue to create, and its binding.
#[derive(Debug)]
pub(crate) struct NewQueue<'a> {
    pub(crate) name: String,
    pub(crate) arguments: FieldTable,
    pub(crate) exchange: &'a str,
    pub(crate) routing_key: String,
}

/// The arguments of a durable queue on as many nodes as the broker's default says.
pub(crate) fn quorum() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(DELIVERY_LIMIT));
    arguments
}

/// Creates a durable queue and binds it.
pub(crate) async fn create(channel: &Channel, queue: NewQueue<'_>) -> Result<()> {
    let NewQueue { name, arguments, exchange, routing_key } = queue;
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    let failed = |error| classify("declare", error).of(&name);
    answer(channel.queue_declare(name.as_str().into(), options, arguments)).await.map_err(failed)?;
    let bound = channel.queue_bind(
        name.as_str().into(),
        exchange.into(),
        routing_key.into(),
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    answer(bound).await.map_err(failed)
}

/// Checks that a queue exists.
///
/// # Errors
/// [`NotFound`](ErrorKind::NotFound), about `subject`.
pub(crate) async fn check_exists(
    connector: &Connector,
    queue: &str,
    subject: &(dyn Display + Sync),
    operation: &'static str,
) -> Result<()> {
    let channel = connector.channel().await?;
    find(&channel, queue).await.map_err(|error| {
        let error = connector.explain(operation, error);
        if error.kind() != ErrorKind::NotFound {
            return error.of(subject);
        }
        let message = format!("there is no queue {queue:?}: it was never declared, or an operator deleted it");
        Error::new(ErrorKind::NotFound, operation, message).of(subject).because(error)
    })
}

/// Asks for a queue without changing anything. The answer comes after the broker has handled everything that the
/// channel sent before.
pub(crate) async fn find(channel: &Channel, queue: &str) -> lapin::Result<()> {
    let options = QueueDeclareOptions { passive: true, ..Default::default() };
    answer(channel.queue_declare(queue.into(), options, FieldTable::default())).await.map(drop)
}

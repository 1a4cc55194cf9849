//! The queues in which messages wait, and the `due` queues that they come to.

use std::time::Duration;

use futures::future::try_join_all;
use lapin::options::ExchangeDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind};
use partitura_broker::{ErrorKind, Result, TopicName};

use crate::client::{Connector, answer};
use crate::error::classify;
use crate::names;
use crate::queues::{self, NewQueue};

/// The shortest time in a wait queue, as a power of two of milliseconds. The forwarder holds a message with a shorter
/// delay.
const SHORTEST: u32 = 11;
/// The longest time: the broker takes times below 2³² ms. A message that is due later passes the queue several times.
const LONGEST: u32 = 31;

/// The time that is left of a delay behind the wait queue, in milliseconds. A busy broker moves messages on late, and
/// the forwarder puts only those in order that have come before they are due.
const MARGIN: u64 = 512;

/// The largest delay: ten years.
pub(crate) const MAX_DELAY: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);
/// How late the 99th percentile of delayed messages is with little load.
pub(crate) const LATENESS: Duration = Duration::from_millis(100);

/// The place where a message waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// None: the message is due.
    None,
    /// The forwarder.
    Brief,
    /// The wait queue of this number of milliseconds.
    InQueue(u64),
}

impl Wait {
    /// The place for a message that is due after `delay`.
    pub(crate) fn for_delay(delay: Duration) -> Self {
        // The delay is rounded up and the time of the queue down, so that rounding makes no message late.
        let millis = u64::try_from(delay.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        match millis.saturating_sub(MARGIN).checked_ilog2() {
            _ if millis == 0 => Self::None,
            Some(power) if power >= SHORTEST => Self::InQueue(1 << power.min(LONGEST)),
            _ => Self::Brief,
        }
    }
}

/// Whether the wait queues exist.
pub(crate) async fn exists(connector: &Connector) -> Result<bool> {
    let channel = connector.channel().await?;
    // This is the last one that is created.
    match queues::find(&channel, names::UNDELIVERABLE).await {
        Ok(()) => Ok(true),
        Err(error) => match connector.explain("declare", error) {
            error if error.kind() == ErrorKind::NotFound => Ok(false),
            error => Err(error),
        },
    }
}

/// Creates the wait queues, once for all topics of a virtual host.
pub(crate) async fn create(channel: &Channel) -> Result<()> {
    let exchange = async |name: &str, kind, alternate: Option<&str>| {
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let mut arguments = FieldTable::default();
        if let Some(alternate) = alternate {
            arguments.insert("alternate-exchange".into(), AMQPValue::LongString(alternate.into()));
        }
        let declared = answer(channel.exchange_declare(name.into(), kind, options, arguments)).await;
        declared.map_err(|error| classify("declare", error).of(name))
    };
    exchange(names::LATER, ExchangeKind::Topic, None).await?;
    exchange(names::UNDELIVERABLE, ExchangeKind::Fanout, None).await?;
    // Without it, a message whose topic was deleted meanwhile would block its wait queue.
    exchange(names::DUE, ExchangeKind::Topic, Some(names::UNDELIVERABLE)).await?;
    let wait_queues = (SHORTEST..=LONGEST).map(|power| {
        let millis = 1 << power;
        let (name, routing_key) = (names::wait_queue(millis), names::any_topic(millis));
        queues::create(channel, NewQueue { name, arguments: waiting(millis), exchange: names::LATER, routing_key })
    });
    try_join_all(wait_queues).await?;
    let undeliverable = NewQueue {
        name: names::UNDELIVERABLE.into(),
        arguments: queues::quorum(),
        exchange: names::UNDELIVERABLE,
        routing_key: String::new(),
    };
    queues::create(channel, undeliverable).await
}

/// The arguments of a wait queue.
fn waiting(millis: u64) -> FieldTable {
    let mut arguments = queues::quorum();
    let text = |text: &str| AMQPValue::LongString(text.into());
    arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(i64::try_from(millis).unwrap_or(i64::MAX)));
    arguments.insert("x-dead-letter-exchange".into(), text(names::DUE));
    // A message leaves the wait queue when the next queue has confirmed it. The broker demands this overflow behaviour
    // with it.
    arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
    arguments.insert("x-overflow".into(), text("reject-publish"));
    arguments
}

/// Creates the `due` queue of a topic.
pub(crate) async fn create_due(channel: &Channel, topic: &TopicName) -> Result<()> {
    let mut arguments = queues::quorum();
    // One consumer forwards at a time, so that messages come in the order of their due times.
    arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    let (name, routing_key) = (names::due(topic), names::any_wait_queue(topic));
    queues::create(channel, NewQueue { name, arguments, exchange: names::DUE, routing_key }).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_queue_leaves_the_margin_and_takes_at_least_half_of_the_rest() {
        let (mut delay, margin) = (MAX_DELAY, Duration::from_millis(MARGIN));
        let mut rounds = 0;
        while let Wait::InQueue(millis) = Wait::for_delay(delay) {
            let wait = Duration::from_millis(millis);
            assert!(wait + margin <= delay, "{delay:?}: {wait:?}");
            assert!(wait * 2 > delay - margin || millis == 1 << LONGEST, "{delay:?}: {wait:?}");
            delay -= wait;
            rounds += 1;
        }
        assert!(rounds < 200, "{rounds} rounds for ten years");
        assert_eq!(Wait::for_delay(Duration::ZERO), Wait::None);
        assert_eq!(Wait::for_delay(Duration::from_nanos(1)), Wait::Brief);
        assert_eq!(Wait::for_delay(Duration::from_millis(2_047 + MARGIN)), Wait::Brief);
        assert_eq!(Wait::for_delay(Duration::from_millis(2_048 + MARGIN)), Wait::InQueue(2_048));
        assert_eq!(Wait::for_delay(Duration::from_millis(4_500)), Wait::InQueue(2_048));
    }
}

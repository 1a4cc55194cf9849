//! Messages that are not due yet.
//!
//! RabbitMQ moves a message on when it has been in a queue for that queue's time. So there are waiting rooms, of 2¹¹ to 2³¹
//! ms: a message goes to the largest one that does not outlast its delay, comes out of it into the `due` queue of its
//! topic, and whoever consumes the topic [forwards](crate::forwarder) it: to its partition, or to the next room. In each
//! room all wait equally long, so that nobody waits for anybody; each round takes at least half of the delay that is left,
//! by the clock of that moment, so that nothing adds up.

use futures::future::try_join_all;
use lapin::options::ExchangeDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind};
use partitura_broker::{ErrorKind, Result, TopicName};
use std::time::Duration;

use crate::error::classify;
use crate::link::{Link, answer};
use crate::names;
use crate::topology::{create_queue, look_at, quorum};

/// The shortest time in a room, as a power of two of milliseconds. A shorter delay is waited out by the forwarder.
const SHORTEST: u32 = 11;
/// The longest: the broker takes times below 2³² ms. What is due later goes round again.
const LONGEST: u32 = 31;

/// The longest delay: ten years.
pub(crate) const MAX: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);
/// How late the 99th percentile is with little load.
pub(crate) const LATENESS: Duration = Duration::from_millis(100);

/// Where a message waits that is due in so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Nowhere: it is due.
    None,
    /// With the forwarder.
    Brief,
    /// In a room, for so many milliseconds.
    Room(u64),
}

impl Wait {
    pub(crate) fn of(delay: Duration) -> Self {
        // Rounded up, and the room rounded down: never late because of it.
        let millis = u64::try_from(delay.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        match millis.checked_ilog2() {
            None => Self::None,
            Some(power) if power < SHORTEST => Self::Brief,
            Some(power) => Self::Room(1 << power.min(LONGEST)),
        }
    }
}

/// Whether the rooms are there.
pub(crate) async fn exists(link: &Link) -> Result<bool> {
    let channel = link.channel().await?;
    // The last that is created.
    match look_at(&channel, names::UNDELIVERABLE).await {
        Ok(()) => Ok(true),
        Err(error) => match link.explain(error, "declare") {
            error if error.kind() == ErrorKind::NotFound => Ok(false),
            error => Err(error),
        },
    }
}

/// Creates the rooms, once for all topics of a virtual host.
pub(crate) async fn create(channel: &Channel) -> Result<()> {
    let exchange = async |name: &str, kind, alternate: Option<&str>| {
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let mut arguments = FieldTable::default();
        if let Some(alternate) = alternate {
            arguments.insert("alternate-exchange".into(), AMQPValue::LongString(alternate.into()));
        }
        let declared = answer(channel.exchange_declare(name.into(), kind, options, arguments)).await;
        declared.map_err(|error| classify(error, "declare").of(name))
    };
    exchange(names::LATER, ExchangeKind::Topic, None).await?;
    exchange(names::UNDELIVERABLE, ExchangeKind::Fanout, None).await?;
    // A message whose topic was deleted meanwhile would otherwise block its room.
    exchange(names::DUE, ExchangeKind::Topic, Some(names::UNDELIVERABLE)).await?;
    let rooms = (SHORTEST..=LONGEST).map(|power| {
        let millis = 1 << power;
        create_queue(channel, names::room(millis), waiting(millis), names::LATER, names::any_topic(millis))
    });
    try_join_all(rooms).await?;
    create_queue(channel, names::UNDELIVERABLE.into(), quorum(), names::UNDELIVERABLE, String::new()).await
}

/// The arguments of a room.
fn waiting(millis: u64) -> FieldTable {
    let mut arguments = quorum();
    let text = |text: &str| AMQPValue::LongString(text.into());
    arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(i64::try_from(millis).unwrap_or(i64::MAX)));
    arguments.insert("x-dead-letter-exchange".into(), text(names::DUE));
    // A message leaves the room when the next queue has confirmed it; the broker asks for the overflow behaviour with it.
    arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
    arguments.insert("x-overflow".into(), text("reject-publish"));
    arguments
}

/// Creates the `due` queue of a topic.
pub(crate) async fn create_due(channel: &Channel, topic: &TopicName) -> Result<()> {
    let mut arguments = quorum();
    // One forwards at a time, so that what is due in order comes in order.
    arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    create_queue(channel, names::due(topic), arguments, names::DUE, names::any_room(topic)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_never_outlasts_the_delay_and_takes_at_least_half_of_it() {
        let mut delay = MAX;
        let mut rounds = 0;
        while let Wait::Room(millis) = Wait::of(delay) {
            let room = Duration::from_millis(millis);
            assert!(room <= delay && (room * 2 > delay || millis == 1 << LONGEST), "{delay:?}: {room:?}");
            delay -= room;
            rounds += 1;
        }
        assert!(rounds < 200, "{rounds} rounds for ten years");
        assert_eq!(Wait::of(Duration::ZERO), Wait::None);
        assert_eq!(Wait::of(Duration::from_nanos(1)), Wait::Brief);
        assert_eq!(Wait::of(Duration::from_millis(2_047)), Wait::Brief);
        assert_eq!(Wait::of(Duration::from_millis(2_048)), Wait::Room(2_048));
        assert_eq!(Wait::of(Duration::from_millis(4_000)), Wait::Room(2_048));
    }
}

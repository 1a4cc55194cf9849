//! What is known of topics: their kind, and their partitions.
//!
//! The description of a topic is in one field of its exchange: the name of the alternate exchange. The broker compares
//! this field when the exchange is declared again, and repeats it in the error if it differs. No exchange of that name
//! exists, so that no message is routed by it. The description is as durable and as replicated as the exchange, and
//! exists from the same moment. `rabbitmqctl list_exchanges name arguments` shows it: `partitura:queue:8`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lapin::options::ExchangeDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind};
use partitura_broker::{Error, ErrorKind, Ordering, Result, Topic, TopicKind, TopicName};

use crate::client::{Connector, answer, uncancelled};
use crate::error::classify;
use crate::names;

const ALTERNATE: &str = "alternate-exchange";

/// The topics that were looked up so far.
#[derive(Debug)]
pub(crate) struct Topics {
    connector: Arc<Connector>,
    known: Mutex<HashMap<TopicName, Topic>>,
}

impl Topics {
    pub(crate) fn new(connector: Arc<Connector>) -> Self {
        Self { connector, known: Mutex::default() }
    }

    /// Looks a topic up, at the broker if it was not looked up before.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound); [`Incompatible`](ErrorKind::Incompatible), if its exchange was not made by
    /// Partitura.
    pub(crate) async fn get(&self, name: &TopicName, operation: &'static str) -> Result<Topic> {
        if let Some(topic) = self.known().get(name) {
            return Ok(topic.clone());
        }
        let topic = uncancelled(find(self.connector.clone(), name.clone(), operation)).await?;
        self.learn(topic.clone());
        Ok(topic)
    }

    /// Returns a topic that was looked up before.
    pub(crate) fn cached(&self, name: &TopicName) -> Option<Topic> {
        self.known().get(name).cloned()
    }

    pub(crate) fn learn(&self, topic: Topic) {
        self.known().insert(topic.name.clone(), topic);
    }

    /// Empties the cache, since a topic may have changed.
    pub(crate) fn forget_all(&self) {
        self.known().clear();
    }

    fn known(&self) -> MutexGuard<'_, HashMap<TopicName, Topic>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Creates the exchange of a topic, or checks that the existing one describes the same topic. After an error the
/// channel cannot be used any more.
pub(crate) async fn create(channel: &Channel, topic: &Topic) -> Result<()> {
    let mut arguments = FieldTable::default();
    arguments.insert(ALTERNATE.into(), AMQPValue::LongString(describe(topic).into()));
    let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
    let name = names::exchange(&topic.name);
    let declared = answer(channel.exchange_declare(name.into(), ExchangeKind::Direct, options, arguments)).await;
    declared.map_err(|error| {
        let error = classify("declare", error).of(&topic.name);
        match found_in(&error).map(|found| parse(&topic.name, &found)) {
            Some(Some(found)) => differs(topic, &found),
            _ => error,
        }
    })
}

/// Asks the broker for a topic.
pub(crate) async fn find(connector: Arc<Connector>, name: TopicName, operation: &'static str) -> Result<Topic> {
    let name = &name;
    let exchange = names::exchange(name);
    let channel = connector.channel().await?;
    let declare = |passive| {
        let options = ExchangeDeclareOptions { durable: true, passive, ..Default::default() };
        let (exchange, none) = (exchange.as_str().into(), FieldTable::default());
        answer(channel.exchange_declare(exchange, ExchangeKind::Direct, options, none))
    };
    if let Err(error) = declare(true).await {
        let error = connector.explain(operation, error);
        let missing = || Error::new(ErrorKind::NotFound, operation, "the topic was never declared").of(name);
        return Err(if error.kind() == ErrorKind::NotFound { missing() } else { error.of(name) });
    }
    // The exchange exists, so this creates nothing. It is refused, since it has no description, and the error repeats
    // the existing one.
    let error = declare(false).await.err().map(|error| connector.explain(operation, error));
    match error {
        Some(error) if error.is_retryable() || error.kind() == ErrorKind::Closed => Err(error.of(name)),
        error => error.as_ref().and_then(found_in).and_then(|found| parse(name, &found)).ok_or_else(|| {
            let message = format!("there is an exchange {exchange:?}, and Partitura did not declare it");
            let unknown = Error::new(ErrorKind::Incompatible, operation, message).of(name);
            error.map_or_else(|| unknown.duplicate(), |error| unknown.duplicate().because(error))
        }),
    }
}

/// The error of a topic that is not as expected.
pub(crate) fn differs(expected: &Topic, found: &Topic) -> Error {
    let message = format!(
        "the topic exists and differs: expected {}, found {}. Declare it as it is, or use another name",
        describe_in_words(expected),
        describe_in_words(found)
    );
    Error::new(ErrorKind::Incompatible, "declare", message).of(&expected.name)
}

fn describe_in_words(topic: &Topic) -> String {
    let kind = if topic.kind == TopicKind::Queue { "queue" } else { "stream" };
    match topic.ordering {
        Ordering::ByKey { partitions } => format!("a {kind} of {partitions} partitions"),
        Ordering::Shared => format!("a shared {kind}"),
    }
}

fn describe(topic: &Topic) -> String {
    let kind = if topic.kind == TopicKind::Queue { "queue" } else { "stream" };
    match topic.ordering {
        Ordering::ByKey { partitions } => format!("{}{kind}:{partitions}", names::DESCRIPTION),
        Ordering::Shared => format!("{}{kind}:shared", names::DESCRIPTION),
    }
}

fn parse(name: &TopicName, description: &str) -> Option<Topic> {
    let (kind, ordering) = description.strip_prefix(names::DESCRIPTION)?.split_once(':')?;
    let kind = match kind {
        "queue" => TopicKind::Queue,
        "stream" => TopicKind::Stream,
        _ => return None,
    };
    let ordering = match ordering {
        "shared" => Ordering::Shared,
        partitions => Ordering::ByKey { partitions: partitions.parse().ok()? },
    };
    Some(Topic { name: name.clone(), kind, ordering })
}

/// Reads the existing description from the broker's error. It has one of two forms, the same since 2.x:
/// `… but current is 'X'`, `… but current is the value 'X' of type 'longstr'`.
fn found_in(error: &Error) -> Option<String> {
    let text = std::error::Error::source(error)?.to_string();
    let (_, found) = text.rsplit_once("but current is ")?;
    let (_, found) = found.split_once('\'')?;
    Some(found.split_once('\'')?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_read_back_from_its_description() {
        let name = TopicName::new("orders").expect("a name");
        for kind in [TopicKind::Queue, TopicKind::Stream] {
            for ordering in [Ordering::Shared, Ordering::ByKey { partitions: 1 }, Ordering::ByKey { partitions: 8 }] {
                let topic = Topic { name: name.clone(), kind, ordering };
                assert_eq!(parse(&name, &describe(&topic)), Some(topic));
            }
        }
        assert_eq!(parse(&name, "partitura:pile:8"), None);
        assert_eq!(parse(&name, "amq.direct"), None);
    }

    #[test]
    fn the_existing_description_is_read_from_both_forms_of_the_error() {
        let error = |text: &str| {
            let refused = "PRECONDITION_FAILED - inequivalent arg 'alternate-exchange' for exchange 'x' in vhost '/': ";
            let source = std::io::Error::other(format!("{refused}{text}"));
            Error::new(ErrorKind::Incompatible, "declare", "").because(source)
        };
        let both = error("received '5' but current is 'partitura:queue:4'");
        let one = error("received none but current is the value 'partitura:queue:4' of type 'longstr'");
        assert_eq!(found_in(&both).as_deref(), Some("partitura:queue:4"));
        assert_eq!(found_in(&one).as_deref(), Some("partitura:queue:4"));
        assert_eq!(found_in(&error("received 'x' but current is none")), None);
        assert_eq!(found_in(&error("received 'x' but current is 'cut he")), None);
    }
}

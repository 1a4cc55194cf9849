//! Knowledge of topics: their kind, and their partitions.
//!
//! The description of a topic is in one field of its exchange: the name of the alternate exchange. The broker compares
//! this field when the exchange is declared again, and repeats it in the error if it differs. No exchange of that name
//! exists, so that no message is routed by it. The description is as durable and as replicated as the exchange, and
//! exists from the same moment. `rabbitmqctl list_exchanges name arguments` shows it: `partitura:queue:8`.

use std::sync::Arc;

use lapin::options::ExchangeDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind};
use partitura_adapter_kit::{TopicCache, describe_topic, parse_topic, topic_differs};
use partitura_broker::{Error, ErrorKind, Result, Topic, TopicName};

use crate::client::{Connector, answer, uncancelled};
use crate::error::classify;
use crate::names;

const ALTERNATE: &str = "alternate-exchange";

/// The topics that were looked up so far.
#[derive(Debug)]
pub(crate) struct Topics {
    connector: Arc<Connector>,
    cache: TopicCache,
}

impl Topics {
    pub(crate) fn new(connector: Arc<Connector>) -> Self {
        Self { connector, cache: TopicCache::default() }
    }

    /// Looks a topic up, at the broker if it was not looked up before.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound); [`Incompatible`](ErrorKind::Incompatible), if its exchange was not made by
    /// Partitura.
    pub(crate) async fn get(&self, name: &TopicName, operation: &'static str) -> Result<Topic> {
        if let Some(topic) = self.cached(name) {
            return Ok(topic);
        }
        let topic = uncancelled(find(self.connector.clone(), name.clone(), operation)).await?;
        self.learn(topic.clone());
        Ok(topic)
    }

    /// Returns a topic that was looked up before.
    pub(crate) fn cached(&self, name: &TopicName) -> Option<Topic> {
        self.cache.get(name)
    }

    pub(crate) fn learn(&self, topic: Topic) {
        self.cache.insert(topic);
    }

    /// Empties the cache, since a topic may have changed.
    pub(crate) fn forget_all(&self) {
        self.cache.clear();
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
            Some(Some(found)) => topic_differs(topic, &found),
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
        Some(error) if error.is_retryable() || matches!(error.kind(), ErrorKind::Closed | ErrorKind::Unauthorized) => {
            Err(error.of(name))
        }
        error => error.as_ref().and_then(found_in).and_then(|found| parse(name, &found)).ok_or_else(|| {
            let message = format!("there is an exchange {exchange:?}, and Partitura did not declare it");
            let unknown = Error::new(ErrorKind::Incompatible, operation, message).of(name);
            error.map_or_else(|| unknown.duplicate(), |error| unknown.duplicate().because(error))
        }),
    }
}

/// `partitura:queue:8`: a queue of eight partitions.
fn describe(topic: &Topic) -> String {
    format!("{}{}", names::DESCRIPTION, describe_topic(topic))
}

fn parse(name: &TopicName, description: &str) -> Option<Topic> {
    parse_topic(name, description.strip_prefix(names::DESCRIPTION)?)
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
    use partitura_broker::{Ordering, TopicKind};

    use super::*;

    #[test]
    fn a_topic_is_read_back_from_its_description() {
        let name = TopicName::new("orders").expect("a name");
        let topic = Topic { name: name.clone(), kind: TopicKind::Queue, ordering: Ordering::ByKey { partitions: 8 } };
        assert_eq!(describe(&topic), "partitura:queue:8");
        assert_eq!(parse(&name, &describe(&topic)), Some(topic));
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

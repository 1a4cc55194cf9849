//! Requests about addresses and queues: messages to Artemis' management address, answered to a queue of our own.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::Arc;

use fe2o3_amqp::session::SessionHandle;
use fe2o3_amqp::types::messaging::{AmqpValue, ApplicationProperties, Body, Message, MessageId, Outcome, Properties};
use fe2o3_amqp::types::primitives::{SimpleValue, Value};
use fe2o3_amqp::{Receiver, Sender};
use partitura_broker::{Error, ErrorKind, Result};
use serde_json::{Value as Json, json};
use tokio::sync::Mutex;

use crate::client::{Connector, Node, answer, receiver, sender, uncancelled};
use crate::error::refused;
use crate::wire::{Incoming, payload};

const ADDRESS: &str = "activemq.management";
const RESOURCE: &str = "_AMQ_ResourceName";
const OPERATION: &str = "_AMQ_OperationName";
const SUCCEEDED: &str = "_AMQ_OperationSucceeded";
/// The number of requests that are on their way at once.
const WINDOW: usize = 64;

/// Asks the broker about its objects, and creates them.
#[derive(Debug)]
pub(crate) struct Management {
    connector: Arc<Connector>,
    /// Held for the time of a request and its answer.
    open: Arc<Mutex<Option<Channel>>>,
}

/// A way to ask, and a way for the answers.
#[derive(Debug)]
struct Channel {
    /// The links end with it.
    _session: SessionHandle<()>,
    sender: Sender,
    receiver: Receiver,
    /// The address of the answers.
    reply_to: String,
    next: u64,
}

/// A request: an operation of a resource.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    resource: String,
    operation: &'static str,
    arguments: Json,
}

/// The answer of the broker: a value, or why it refuses.
pub(crate) type Answer = std::result::Result<Json, String>;

/// A queue to create.
#[derive(Debug, Default)]
pub(crate) struct NewQueue {
    pub(crate) name: String,
    pub(crate) address: String,
    /// Takes only the messages for which this is true.
    pub(crate) filter: Option<String>,
    pub(crate) kind: Kind,
}

/// The readers of a queue, and what stays of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Kind {
    /// Durable, for any number of readers.
    #[default]
    Shared,
    /// Durable. A second reader is refused.
    Exclusive,
    /// Durable. One of its readers gets everything, and another when that one is gone.
    OneActive,
    /// For one reader, and gone after it. Beyond this number of messages the oldest are dropped.
    Own(u32),
}

impl Request {
    /// Creates an address, to which messages can then be published.
    pub(crate) fn create_address(name: &str) -> Self {
        Self::to_broker("createAddress", json!([name, "MULTICAST"]))
    }

    /// Creates a queue, and its address if it has none.
    pub(crate) fn create_queue(queue: &NewQueue) -> Self {
        let mut description = json!({
            "name": queue.name,
            "address": queue.address,
            "routing-type": "MULTICAST",
            "durable": !matches!(queue.kind, Kind::Own(_)),
            "auto-create-address": true,
            "auto-delete": matches!(queue.kind, Kind::Own(_)),
        });
        if let Some(filter) = &queue.filter {
            description["filter-string"] = json!(filter);
        }
        match queue.kind {
            Kind::Shared => {}
            Kind::Exclusive => description["max-consumers"] = json!(1),
            Kind::OneActive => description["exclusive"] = json!(true),
            Kind::Own(limit) => {
                description["max-consumers"] = json!(1);
                description["ring-size"] = json!(limit);
                description["auto-delete-message-count"] = json!(-1);
            }
        }
        Self::to_broker("createQueue", json!([description.to_string(), false]))
    }

    /// Asks for the filter of a queue, and so whether the queue exists.
    pub(crate) fn filter(queue: &str) -> Self {
        Self { resource: format!("queue.{queue}"), operation: "getFilter", arguments: json!([]) }
    }

    /// Asks for the number of messages in a queue, those with its reader included.
    pub(crate) fn message_count(queue: &str) -> Self {
        Self { resource: format!("queue.{queue}"), operation: "getMessageCount", arguments: json!([]) }
    }

    /// Asks for the version of the server.
    pub(crate) fn version() -> Self {
        Self::to_broker("getVersion", json!([]))
    }

    fn to_broker(operation: &'static str, arguments: Json) -> Self {
        Self { resource: "broker".to_owned(), operation, arguments }
    }
}

impl Management {
    pub(crate) fn new(connector: Arc<Connector>) -> Self {
        Self { connector, open: Arc::default() }
    }

    /// Asks for one thing.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound), about `subject`: the broker has no such resource.
    pub(crate) async fn ask(
        &self,
        operation: &'static str,
        subject: &(dyn Display + Sync),
        request: Request,
    ) -> Result<Json> {
        let answers = self.ask_all(operation, vec![request]).await?;
        let none = || Err("no answer".to_owned());
        answers.into_iter().next().unwrap_or_else(none).map_err(|why| unable(operation, &why).of(subject))
    }

    /// Asks for several things at once. The answers come in the order of the requests.
    ///
    /// # Errors
    /// Those of the connection.
    pub(crate) async fn ask_all(&self, operation: &'static str, requests: Vec<Request>) -> Result<Vec<Answer>> {
        let (open, connector) = (self.open.clone(), self.connector.clone());
        uncancelled(async move {
            let mut open = open.lock().await;
            // If this fails, what is left of the answers goes with the channel.
            let mut channel = match open.take() {
                Some(channel) => channel,
                None => Channel::open(&connector, operation).await?,
            };
            let mut answers = Vec::with_capacity(requests.len());
            for requests in requests.chunks(WINDOW) {
                answers.extend(channel.ask(&connector, operation, requests).await?);
            }
            *open = Some(channel);
            Ok(answers)
        })
        .await
    }
}

impl Channel {
    async fn open(connector: &Connector, operation: &'static str) -> Result<Self> {
        let mut session = connector.session(operation).await?;
        let mut receiver = receiver(&mut session, operation, Node::default()).await?;
        receiver.set_credit(WINDOW as u32).await.map_err(|error| connector.explain(operation, error))?;
        let reply_to = receiver.source().as_ref().and_then(|source| source.address.clone());
        let Some(reply_to) = reply_to else {
            let message = "the broker gives no address to a dynamic node, and so is not Artemis";
            return Err(Error::new(ErrorKind::Incompatible, operation, message));
        };
        let sender = sender(&mut session, operation, Some(ADDRESS)).await?;
        Ok(Self { _session: session, sender, receiver, reply_to, next: 0 })
    }

    async fn ask(
        &mut self,
        connector: &Connector,
        operation: &'static str,
        requests: &[Request],
    ) -> Result<Vec<Answer>> {
        let first = self.next;
        let mut sent = Vec::with_capacity(requests.len());
        for request in requests {
            let message = self.message(request);
            self.next += 1;
            let sending = answer(operation, self.sender.send_batchable(message)).await?;
            sent.push(sending.map_err(|error| connector.explain(operation, error))?);
        }
        for sent in sent {
            match answer(operation, sent).await?.map_err(|error| connector.explain(operation, error))? {
                Outcome::Accepted(_) => {}
                Outcome::Rejected(rejected) => {
                    let unknown = || Error::new(ErrorKind::Disconnected, operation, "the broker gives no reason");
                    return Err(rejected.error.map_or_else(unknown, |said| refused(operation, &said)));
                }
                other => {
                    let message = format!("the broker does not take a request: {other:?}");
                    return Err(Error::new(ErrorKind::Disconnected, operation, message));
                }
            }
        }
        let mut answers = HashMap::new();
        while answers.len() < requests.len() {
            let (number, answer) = self.next_answer(connector, operation).await?;
            answers.insert(number, answer);
        }
        let in_order = (first..self.next).map(|number| answers.remove(&number).unwrap_or_else(|| Err(String::new())));
        Ok(in_order.collect())
    }

    fn message(&self, request: &Request) -> Message<AmqpValue<Value>> {
        let table = ApplicationProperties::builder()
            .insert(RESOURCE, request.resource.clone())
            .insert(OPERATION, request.operation)
            .build();
        let properties =
            Properties::builder().reply_to(self.reply_to.clone()).correlation_id(self.next.to_string()).build();
        let body = Value::String(request.arguments.to_string());
        Message::builder().properties(properties).application_properties(table).value(body).build()
    }

    async fn next_answer(&mut self, connector: &Connector, operation: &'static str) -> Result<(u64, Answer)> {
        let received = answer(operation, self.receiver.recv::<Body<Value>>()).await?;
        let delivery = received.map_err(|error| connector.explain(operation, error))?;
        self.receiver.accept(&delivery).await.map_err(|error| connector.explain(operation, error))?;
        self.receiver.set_credit(WINDOW as u32).await.map_err(|error| connector.explain(operation, error))?;
        let message = delivery.into_message();
        let number = match message.properties.as_ref().and_then(|properties| properties.correlation_id.as_ref()) {
            Some(MessageId::String(number)) => number.parse().unwrap_or(u64::MAX),
            _ => u64::MAX,
        };
        Ok((number, read(message)))
    }
}

/// Reads an answer: a list of one value, or of one error.
fn read(message: Incoming) -> Answer {
    let table = message.application_properties.as_ref().map(|table| &table.0);
    let succeeded = matches!(table.and_then(|table| table.get(SUCCEEDED)), Some(SimpleValue::Bool(true)));
    let value = match serde_json::from_slice(&payload(message.body)) {
        Ok(Json::Array(values)) => values.into_iter().next().unwrap_or_default(),
        _ => Json::Null,
    };
    if succeeded { Ok(value) } else { Err(value.as_str().unwrap_or("no reason").to_owned()) }
}

/// The error of a request that the broker answers with a refusal.
pub(crate) fn unable(operation: &'static str, why: &str) -> Error {
    let kind = match why {
        // There is no such resource; there is no such queue, or address.
        why if ["AMQ229067", "AMQ229017", "AMQ229203"].iter().any(|number| why.contains(number)) => ErrorKind::NotFound,
        why if why.contains("AMQ229032") || why.contains("AMQ229213") => ErrorKind::Unauthorized,
        _ => ErrorKind::Disconnected,
    };
    Error::new(kind, operation, format!("the broker says {why:?}"))
}

/// Whether the refusal says that the address or queue exists already.
pub(crate) fn exists(why: &str) -> bool {
    why.contains("AMQ229204") || why.contains("AMQ229019")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_described_as_the_broker_wants_it() {
        let described = |kind| {
            let (name, address) = ("q".to_owned(), "a".to_owned());
            let request = Request::create_queue(&NewQueue { name, address, filter: Some("x = 1".to_owned()), kind });
            let text = request.arguments[0].as_str().expect("a text within the list").to_owned();
            serde_json::from_str::<Json>(&text).expect("JSON within the text")
        };
        let exclusive = described(Kind::Exclusive);
        assert_eq!((&exclusive["max-consumers"], &exclusive["durable"]), (&json!(1), &json!(true)));
        assert_eq!(exclusive["filter-string"], "x = 1");
        let own = described(Kind::Own(7));
        assert_eq!((&own["ring-size"], &own["durable"], &own["auto-delete"]), (&json!(7), &json!(false), &json!(true)));
        assert_eq!(described(Kind::OneActive)["exclusive"], json!(true));
    }

    #[test]
    fn an_answer_is_a_value_or_a_reason() {
        let answer = |succeeded: bool, body: &str| {
            let table = ApplicationProperties::builder().insert(SUCCEEDED, succeeded).build();
            let body = Body::Value(AmqpValue(Value::String(body.to_owned())));
            read(Message::builder().application_properties(table).body(body).build())
        };
        assert_eq!(answer(true, "[\"2.55.0\"]"), Ok(json!("2.55.0")));
        assert_eq!(answer(true, "[]"), Ok(Json::Null));
        let why = answer(false, "[\"AMQ229067: Cannot find resource with name queue.q\"]").expect_err("refused");
        assert_eq!(unable("test", &why).kind(), ErrorKind::NotFound);
        assert!(exists("AMQ229204: Address already exists: a") && !exists(&why));
    }
}

//! Requests to a node, and their answers: the pattern of AMQP's management, as Service Bus has it.

use fe2o3_amqp::session::SessionHandle;
use fe2o3_amqp::types::messaging::{AmqpValue, ApplicationProperties, Body, Message, MessageId, Properties};
use fe2o3_amqp::types::primitives::{OrderedMap, SimpleValue, Value};
use fe2o3_amqp::{Receiver, Sender};
use partitura_broker::{Error, ErrorKind, InboxAddress, Result};

use super::link::{Node, receiver, sender};
use super::{Connector, answer};

const OPERATION: &str = "operation";
const STATUS: &str = "statusCode";
const DESCRIPTION: &str = "statusDescription";

/// The arguments of a request, or the values of an answer.
pub(crate) type Fields = OrderedMap<Value, Value>;

/// A way to ask a node, and a way for its answers.
#[derive(Debug)]
pub(crate) struct Requests {
    sender: Sender,
    receiver: Receiver,
    reply_to: String,
    asked: u64,
}

impl Requests {
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound): there is no such node.
    pub(crate) async fn open(session: &mut SessionHandle<()>, operation: &'static str, node: &str) -> Result<Self> {
        let mut receiver = receiver(session, operation, Node::of_its_own(node.to_owned())).await?;
        let lost = |error| crate::error::lost(operation, error);
        receiver.set_credit(1).await.map_err(lost)?;
        let sender = sender(session, operation, Some(node)).await?;
        Ok(Self { sender, receiver, reply_to: InboxAddress::secret(), asked: 0 })
    }

    /// Asks one thing, and waits for the answer.
    pub(crate) async fn ask(
        &mut self,
        connector: &Connector,
        operation: &'static str,
        request: &'static str,
        arguments: Fields,
    ) -> Result<Fields> {
        let lost = |error: &dyn std::fmt::Display| {
            Error::new(ErrorKind::Disconnected, operation, format!("{request} was not answered: {error}"))
        };
        self.asked += 1;
        let properties = Properties::builder().message_id(self.asked.to_string()).reply_to(self.reply_to.clone());
        let table = ApplicationProperties::builder().insert(OPERATION, request).build();
        let message: Message<AmqpValue<Value>> = Message::builder()
            .properties(properties.build())
            .application_properties(table)
            .value(Value::Map(arguments))
            .build();
        let sent = answer(operation, self.sender.send(message)).await?;
        sent.map_err(|error| connector.explain(operation, error))?;
        let own = MessageId::String(self.asked.to_string());
        loop {
            let received = answer(operation, self.receiver.recv::<Body<Value>>()).await?;
            let delivery = received.map_err(|error| connector.explain(operation, error))?;
            self.receiver.accept(&delivery).await.map_err(|error| lost(&error))?;
            self.receiver.set_credit(1).await.map_err(|error| lost(&error))?;
            let message = delivery.into_message();
            let of = message.properties.as_ref().and_then(|properties| properties.correlation_id.as_ref());
            // The caller of an earlier request may have given up before its answer came.
            if of.is_none_or(|of| *of == own) {
                return read(operation, message);
            }
        }
    }
}

/// Reads an answer. Like those of HTTP, codes from 200 to 299 are those of success.
fn read(operation: &'static str, message: Message<Body<Value>>) -> Result<Fields> {
    let table = message.application_properties.map(|table| table.0).unwrap_or_default();
    let code = match table.get(STATUS) {
        Some(SimpleValue::Int(code)) => *code,
        _ => 0,
    };
    if !(200..300).contains(&code) {
        let said = match table.get(DESCRIPTION) {
            Some(SimpleValue::String(said)) => said.clone(),
            _ => "nothing".to_owned(),
        };
        return Err(Error::new(kind(code), operation, format!("the broker answers {code}: {said:?}")));
    }
    match message.body {
        Body::Value(AmqpValue(Value::Map(fields))) => Ok(fields),
        _ => Ok(Fields::default()),
    }
}

fn kind(code: i32) -> ErrorKind {
    match code {
        401 | 403 => ErrorKind::Unauthorized,
        404 => ErrorKind::NotFound,
        429 | 503 => ErrorKind::Throttled,
        // Gone: the lock of a session.
        _ => ErrorKind::Disconnected,
    }
}

//! Requests about a node of Service Bus.

use fe2o3_amqp::types::messaging::{AmqpValue, ApplicationProperties, Body, Message, Properties};
use fe2o3_amqp::types::primitives::{Binary, OrderedMap, Value};

use super::nodes::{self, Reader, Stored};
use super::shared::Shared;

/// The end of the name of the node that answers requests about another.
pub(super) const MANAGEMENT: &str = "/$management";

/// The answer to a request of a connection.
pub(super) fn answer(shared: &Shared, connection: u64, address: &str, request: &Stored) -> Stored {
    let operation = nodes::property(request, "operation").unwrap_or_default().to_owned();
    let arguments = match &request.body {
        Body::Value(AmqpValue(Value::Map(arguments))) => arguments.clone(),
        _ => OrderedMap::new(),
    };
    let text = |name: &str| Value::String(name.to_owned());
    let session = match arguments.get(&text("session-id")) {
        Some(Value::String(session)) => session.clone(),
        _ => String::new(),
    };
    let mut fields = OrderedMap::new();
    let node = address.strip_suffix(MANAGEMENT).unwrap_or(address).to_owned();
    let mut code = 404;
    if operation.ends_with("peek-message") {
        shared.state().looks_at(&node);
    }
    if let Some(queue) = shared.state().nodes.queues.get_mut(&node) {
        let holds = |reader: &Reader| reader.link.0 == connection && reader.session.as_deref() == Some(&session);
        let is_locked = queue.readers.iter().any(holds);
        code = if is_locked || operation.ends_with("peek-message") { 200 } else { 410 };
        if let (true, Some(Value::Binary(state))) = (is_locked, arguments.get(&text("session-state"))) {
            queue.states.insert(session.clone(), state.to_vec());
        }
        let state = queue.states.get(&session).map(|state| Value::Binary(Binary::from(state.clone())));
        fields.insert(text("session-state"), state.unwrap_or(Value::Null));
        if let Some(Value::Long(from)) = arguments.get(&text("from-sequence-number")) {
            let shown = queue.peek(u64::try_from(*from).expect("no number below zero"));
            let entry = |message: Vec<u8>| {
                Value::Map([(text("message"), Value::Binary(Binary::from(message)))].into_iter().collect())
            };
            fields.insert(text("messages"), Value::List(shown.into_iter().map(entry).collect()));
        }
    }
    // Members look again and again.
    if !operation.ends_with("peek-message") {
        shared.log(format!("ask {node} {operation} session {session}: {code}"));
    }
    let table = ApplicationProperties::builder().insert("statusCode", code).insert("statusDescription", "said");
    let mut properties = Properties::default();
    properties.correlation_id = request.properties.as_ref().and_then(|properties| properties.message_id.clone());
    let answer = Message::builder().properties(properties).application_properties(table.build());
    answer.body(Body::Value(AmqpValue(Value::Map(fields)))).build()
}

//! The commands of the protocol, as far as they are used.

use pulsar::proto::base_command::Type;
use pulsar::proto::command_subscribe::{InitialPosition, SubType};
use pulsar::proto::{
    AuthData, BaseCommand, CommandAck, CommandAuthResponse, CommandCloseConsumer, CommandCloseProducer, CommandConnect,
    CommandFlow, CommandGetLastMessageId, CommandLookupTopic, CommandPing, CommandPong, CommandProducer, CommandSend,
    CommandSubscribe, FeatureFlags, MessageIdData,
};

/// The version of the protocol: that of Pulsar 2.10, with receipts for acknowledgements.
const PROTOCOL: i32 = 19;
const CLIENT: &str = concat!("partitura-pulsar-", env!("CARGO_PKG_VERSION"));
/// The name of the authentication by token.
const TOKEN: &str = "token";

fn base(r#type: Type) -> BaseCommand {
    BaseCommand { r#type: r#type as i32, ..BaseCommand::default() }
}

/// Begins a session. `broker` is the one that a proxy is to lead to.
pub(crate) fn connect(token: Option<String>, broker: Option<String>) -> BaseCommand {
    let connect = CommandConnect {
        client_version: CLIENT.to_owned(),
        protocol_version: Some(PROTOCOL),
        auth_method_name: token.is_some().then(|| TOKEN.to_owned()),
        auth_data: token.map(String::into_bytes),
        proxy_to_broker_url: broker,
        feature_flags: Some(FeatureFlags { supports_auth_refresh: Some(true), ..FeatureFlags::default() }),
        ..CommandConnect::default()
    };
    BaseCommand { connect: Some(connect), ..base(Type::Connect) }
}

/// Answers a broker that asks for a fresh token.
pub(crate) fn authenticate(token: String) -> BaseCommand {
    let response = AuthData { auth_method_name: Some(TOKEN.to_owned()), auth_data: Some(token.into_bytes()) };
    let auth_response = CommandAuthResponse {
        client_version: Some(CLIENT.to_owned()),
        response: Some(response),
        protocol_version: Some(PROTOCOL),
    };
    BaseCommand { auth_response: Some(auth_response), ..base(Type::AuthResponse) }
}

pub(crate) fn ping() -> BaseCommand {
    BaseCommand { ping: Some(CommandPing {}), ..base(Type::Ping) }
}

pub(crate) fn pong() -> BaseCommand {
    BaseCommand { pong: Some(CommandPong {}), ..base(Type::Pong) }
}

/// Asks which broker serves a topic.
pub(crate) fn lookup(request_id: u64, topic: String, authoritative: bool, listener: Option<String>) -> BaseCommand {
    let lookup = CommandLookupTopic {
        topic,
        request_id,
        authoritative: Some(authoritative),
        advertised_listener_name: listener,
        ..CommandLookupTopic::default()
    };
    BaseCommand { lookup_topic: Some(lookup), ..base(Type::Lookup) }
}

/// Opens a producer. The broker gives it a name, so that no two are taken for the same.
pub(crate) fn produce(request_id: u64, producer_id: u64, topic: String) -> BaseCommand {
    let producer = CommandProducer {
        topic,
        producer_id,
        request_id,
        user_provided_producer_name: Some(false),
        ..Default::default()
    };
    BaseCommand { producer: Some(producer), ..base(Type::Producer) }
}

pub(crate) fn send(send: CommandSend) -> BaseCommand {
    BaseCommand { send: Some(send), ..base(Type::Send) }
}

pub(crate) fn close_producer(request_id: u64, producer_id: u64) -> BaseCommand {
    let close = CommandCloseProducer { producer_id, request_id };
    BaseCommand { close_producer: Some(close), ..base(Type::CloseProducer) }
}

/// The options of a consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subscribe {
    pub(crate) topic: String,
    pub(crate) subscription: String,
    pub(crate) kind: SubType,
    pub(crate) durable: bool,
    /// Whether the broker may create the topic.
    pub(crate) create: bool,
}

/// Subscribes. Durable subscriptions were declared before. One that is made here begins with the next message.
pub(crate) fn subscribe(request_id: u64, consumer_id: u64, to: &Subscribe) -> BaseCommand {
    let subscribe = CommandSubscribe {
        topic: to.topic.clone(),
        subscription: to.subscription.clone(),
        sub_type: to.kind as i32,
        consumer_id,
        request_id,
        durable: Some(to.durable),
        force_topic_creation: Some(to.create),
        initial_position: Some(InitialPosition::Latest as i32),
        ..Default::default()
    };
    BaseCommand { subscribe: Some(subscribe), ..base(Type::Subscribe) }
}

pub(crate) fn flow(consumer_id: u64, messages: u32) -> BaseCommand {
    BaseCommand { flow: Some(CommandFlow { consumer_id, message_permits: messages }), ..base(Type::Flow) }
}

/// Acknowledges messages, or the indexes of batches that are missing in their acknowledgement sets.
pub(crate) fn acknowledge(request_id: Option<u64>, consumer_id: u64, message_id: Vec<MessageIdData>) -> BaseCommand {
    let ack = CommandAck { consumer_id, message_id, request_id, ..CommandAck::default() };
    BaseCommand { ack: Some(ack), ..base(Type::Ack) }
}

pub(crate) fn last_message_id(request_id: u64, consumer_id: u64) -> BaseCommand {
    let last = CommandGetLastMessageId { consumer_id, request_id };
    BaseCommand { get_last_message_id: Some(last), ..base(Type::GetLastMessageId) }
}

pub(crate) fn close_consumer(request_id: u64, consumer_id: u64) -> BaseCommand {
    let close = CommandCloseConsumer { consumer_id, request_id };
    BaseCommand { close_consumer: Some(close), ..base(Type::CloseConsumer) }
}

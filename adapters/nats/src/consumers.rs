//! The server's consumers: their configurations, and the requests that find, create and change them.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use async_nats::Subject;
use async_nats::jetstream::consumer::{AckPolicy, Config, DeliverPolicy, Info};
use async_nats::jetstream::stream::RawMessage;
use async_nats::jetstream::{self, ErrorCode, stream};
use bytes::Bytes;
use partitura_broker::{Partition, Result, SubscriptionName, Timestamp, TopicKind};
use serde::Deserialize;
use serde_json::json;

use crate::client::Connection;
use crate::topics::KnownTopic;
use crate::{error, names};

/// The queue group in which an owner subscribes to the deliveries of its consumer, so that another subscriber does not
/// count as the owner.
pub(crate) const OWNER: &str = "owner";
/// Part of the subject to which a consumer delivers that has had no owner yet.
const NO_OWNER: &str = "nobody";
/// The interval of the heartbeats of an idle consumer.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(5);
/// The time after which an unacknowledged message is sent to its owner again. The owner ignores a message that it still
/// holds, and acknowledges again one that it has settled. So this only repairs a lost acknowledgement.
const OWNED_FOR: Duration = Duration::from_secs(600);
/// The time after which messages go to other members of a shared subscription, if their member is silent.
pub(crate) const HELD_FOR: Duration = Duration::from_secs(10);
/// The time for which a listener's consumer outlives its connection.
const LISTENER_FOR: Duration = Duration::from_secs(15);
/// The metadata field with the server's run in which a consumer was last claimed.
const SERVER: &str = "partitura-server";
/// The metadata field with the last message that the server may have delivered without remembering it.
const DOUBTED: &str = "partitura-doubted";

/// The delivery of messages to the owner of a claim.
#[derive(Debug, Clone)]
pub(crate) struct Delivery<'a> {
    /// The subject to which the owner is subscribed.
    pub(crate) to: &'a str,
    /// The largest number of unacknowledged messages.
    pub(crate) ahead: usize,
    pub(crate) doubt: Doubt,
}

/// The messages that a server may have delivered and forgotten.
///
/// A server that was killed forgets the deliveries of its last moments, and would deliver them again as if for the
/// first time. So the metadata of a consumer have the server's run in which it was last claimed, and the last message
/// of the stream when that changed.
#[derive(Debug, Clone)]
pub(crate) struct Doubt {
    /// The id of the server in this run.
    server: String,
    /// Messages up to this number may have been delivered before, whatever the server reports.
    pub(crate) up_to: u64,
}

impl Doubt {
    fn metadata(&self) -> HashMap<String, String> {
        HashMap::from([(SERVER.to_owned(), self.server.clone()), (DOUBTED.to_owned(), self.up_to.to_string())])
    }
}

/// The consumer of one partition of an ordered subscription. Its owner is the client to which it delivers.
pub(crate) fn owned(known: &KnownTopic, name: String, partition: Partition, delivery: Option<Delivery<'_>>) -> Config {
    let (to, ahead, metadata) = match delivery {
        Some(Delivery { to, ahead, doubt }) => (to.to_owned(), ahead, doubt.metadata()),
        None => (format!("{}.{NO_OWNER}.{name}", known.stream), 1, HashMap::new()),
    };
    Config {
        durable_name: Some(name),
        deliver_subject: Some(to),
        deliver_group: Some(OWNER.to_owned()),
        max_ack_pending: i64::try_from(ahead).unwrap_or(i64::MAX),
        ack_wait: OWNED_FOR,
        idle_heartbeat: HEARTBEAT,
        filter_subject: known.subjects.get(partition.0 as usize).map(ToString::to_string).unwrap_or_default(),
        metadata,
        ..durable(known)
    }
}

/// The consumer of a shared subscription, from which its members take messages.
pub(crate) fn shared(known: &KnownTopic, subscription: &SubscriptionName, doubt: Option<&Doubt>) -> Config {
    Config {
        durable_name: Some(names::shared_consumer(subscription)),
        // Each member bounds the number of its messages.
        max_ack_pending: -1,
        ack_wait: HELD_FOR,
        filter_subject: known.subjects[0].to_string(),
        metadata: doubt.map(Doubt::metadata).unwrap_or_default(),
        ..durable(known)
    }
}

/// The consumer of a listener to all of a stream, from now on. The server removes it some time after its listener is
/// gone.
pub(crate) fn listener(known: &KnownTopic, name: String, all: String, delivery: Delivery<'_>) -> Config {
    Config {
        name: Some(name),
        deliver_subject: Some(delivery.to.to_owned()),
        deliver_group: Some(OWNER.to_owned()),
        deliver_policy: DeliverPolicy::New,
        max_ack_pending: i64::try_from(delivery.ahead).unwrap_or(i64::MAX),
        ack_wait: OWNED_FOR,
        idle_heartbeat: HEARTBEAT,
        inactive_threshold: LISTENER_FOR,
        memory_storage: true,
        num_replicas: 1,
        filter_subject: all,
        ..durable(known)
    }
}

/// The consumer of a stream's delayed messages. It takes none of them: it is the interest without which the server
/// drops them.
pub(crate) fn schedules(all: String) -> Config {
    Config {
        durable_name: Some("schedules".to_owned()),
        filter_subject: all,
        ack_policy: AckPolicy::Explicit,
        ..Config::default()
    }
}

fn durable(known: &KnownTopic) -> Config {
    Config {
        ack_policy: AckPolicy::Explicit,
        // The one subscription of a queue gets all of its messages. A subscription of a stream gets those from now on.
        deliver_policy: match known.topic.kind {
            TopicKind::Queue => DeliverPolicy::All,
            TopicKind::Stream => DeliverPolicy::New,
        },
        ..Config::default()
    }
}

/// Finds the messages that the next claim of a consumer has to doubt.
pub(crate) async fn doubt(
    connection: &Connection,
    operation: &'static str,
    known: &KnownTopic,
    before: Option<&Info>,
) -> Result<Doubt> {
    let server = connection.info.server_id.clone();
    let metadata = before.map(|info| &info.config.metadata);
    let up_to = match metadata.and_then(|metadata| metadata.get(SERVER)) {
        None => 0,
        Some(run) if *run == server => metadata.and_then(|metadata| metadata.get(DOUBTED)?.parse().ok()).unwrap_or(0),
        Some(_) => {
            let request = format!("STREAM.INFO.{}", known.stream);
            match connection.ask::<stream::Info>(operation, &known.topic.name, request, &json!({})).await? {
                Ok(info) => info.state.last_sequence,
                Err(e) => return Err(error::refused(operation, &known.topic.name, e)),
            }
        }
    };
    Ok(Doubt { server, up_to })
}

/// Asks for a consumer. `None`: it does not exist.
pub(crate) async fn find(
    connection: &Connection,
    operation: &'static str,
    known: &KnownTopic,
    name: &str,
) -> Result<Option<Info>> {
    let request = format!("CONSUMER.INFO.{}.{name}", known.stream);
    match connection.ask(operation, &known.topic.name, request, &json!({})).await? {
        Ok(info) => Ok(Some(info)),
        Err(e) if matches!(e.error_code(), ErrorCode::CONSUMER_NOT_FOUND | ErrorCode::STREAM_NOT_FOUND) => Ok(None),
        Err(e) => Err(error::refused(operation, &known.topic.name, e)),
    }
}

#[derive(Deserialize)]
struct Stored {
    message: RawMessage,
}

/// Asks when the stream stored its first message of a subject behind this number. `None`: there is none.
pub(crate) async fn next_stored(
    connection: &Connection,
    operation: &'static str,
    known: &KnownTopic,
    subject: &str,
    after: u64,
) -> Result<Option<Timestamp>> {
    let request = format!("STREAM.MSG.GET.{}", known.stream);
    let next = json!({ "seq": after + 1, "next_by_subj": subject });
    match connection.ask::<Stored>(operation, &known.topic.name, request, &next).await? {
        Ok(Stored { message }) => Ok(Some(SystemTime::from(message.time).into())),
        Err(e) if e.error_code() == ErrorCode::NO_MESSAGE_FOUND => Ok(None),
        Err(e) => Err(error::refused(operation, &known.topic.name, e)),
    }
}

/// The effect of a request that writes a consumer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Action {
    /// Create it, unless there is another one of this name.
    Create,
    /// Change the one that exists.
    Update,
    /// Create or change it.
    CreateOrUpdate,
}

/// Creates or changes a consumer. The inner result is the server's answer.
pub(crate) async fn write(
    connection: &Connection,
    operation: &'static str,
    known: &KnownTopic,
    config: &Config,
    action: Action,
) -> Result<Result<Info, jetstream::Error>> {
    let (request, payload) = write_request(known, config, action);
    connection.ask(operation, &known.topic.name, request, &payload).await
}

/// A request that is sent without waiting for its answer.
pub(crate) struct Request {
    pub(crate) subject: Subject,
    pub(crate) payload: Bytes,
}

/// The request that changes a consumer.
pub(crate) fn update(connection: &Connection, known: &KnownTopic, config: &Config) -> Option<Request> {
    let (request, payload) = write_request(known, config, Action::Update);
    let subject = format!("{}.{request}", connection.api).into();
    Some(Request { subject, payload: serde_json::to_vec(&payload).ok()?.into() })
}

/// The name of a consumer that is to be written.
pub(crate) fn name(config: &Config) -> &str {
    config.durable_name.as_ref().or(config.name.as_ref()).map_or("", String::as_str)
}

fn write_request(known: &KnownTopic, config: &Config, action: Action) -> (String, serde_json::Value) {
    let request = format!("CONSUMER.CREATE.{}.{}.{}", known.stream, name(config), config.filter_subject);
    let action = match action {
        Action::Create => "create",
        Action::Update => "update",
        Action::CreateOrUpdate => "",
    };
    (request, json!({ "stream_name": known.stream, "config": config, "action": action }))
}

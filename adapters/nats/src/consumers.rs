//! The server's consumers: which there are, and how they are configured.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::Subject;
use async_nats::jetstream::consumer::{AckPolicy, Config, DeliverPolicy, Info};
use async_nats::jetstream::{self, ErrorCode, stream};
use bytes::Bytes;
use partitura_broker::{Partition, Result, SubscriptionName, TopicKind};
use serde_json::json;

use crate::link::Link;
use crate::topics::Known;
use crate::{error, names};

/// The queue group in which an owner is subscribed to what its consumer delivers, so that nobody who merely listens along
/// counts as one.
pub(crate) const OWNER: &str = "owner";
/// Where a consumer delivers to that nobody has owned yet.
const NOBODY: &str = "nobody";
/// How often an idle consumer says that it is there.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(5);
/// How long what an owner holds stays with it without being sent to it again. That changes nothing: the owner knows what it
/// holds, ignores it, and acknowledges again what it no longer holds. It only mends a lost acknowledgement.
const OWNED_FOR: Duration = Duration::from_secs(600);
/// How long a competitor may be silent before others get what it holds.
pub(crate) const HELD_FOR: Duration = Duration::from_secs(10);
/// How long a listener's consumer outlives its connection.
const LISTENER_FOR: Duration = Duration::from_secs(15);
/// The run of the server that a consumer was last claimed in.
const SERVER: &str = "partitura-server";
/// Up to which message that server may have delivered without remembering it.
const DOUBTED: &str = "partitura-doubted";

/// How messages come to one who has a claim.
#[derive(Debug, Clone)]
pub(crate) struct Delivery<'a> {
    /// The subject that the owner is subscribed to.
    pub(crate) to: &'a str,
    /// How many may be unacknowledged.
    pub(crate) ahead: usize,
    pub(crate) doubt: Doubt,
}

/// A server that was killed forgets the deliveries of its last moments, and would deliver them again as if for the first
/// time. So a consumer's metadata say in which run it was last claimed, and how far the stream had come when that changed.
#[derive(Debug, Clone)]
pub(crate) struct Doubt {
    /// What the server calls itself in this run.
    server: String,
    /// Messages up to this number may have been delivered before, whatever the server says.
    pub(crate) up_to: u64,
}

impl Doubt {
    fn metadata(&self) -> HashMap<String, String> {
        HashMap::from([(SERVER.to_owned(), self.server.clone()), (DOUBTED.to_owned(), self.up_to.to_string())])
    }
}

/// The consumer of one partition of an ordered subscription, owned by whoever it delivers to.
pub(crate) fn owned(known: &Known, name: String, partition: Partition, delivery: Option<Delivery<'_>>) -> Config {
    let (to, ahead, metadata) = match delivery {
        Some(Delivery { to, ahead, doubt }) => (to.to_owned(), ahead, doubt.metadata()),
        None => (format!("{}.{NOBODY}.{name}", known.stream), 1, HashMap::new()),
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

/// The consumer of a shared subscription, which its members draw from.
pub(crate) fn shared(known: &Known, subscription: &SubscriptionName, doubt: Option<&Doubt>) -> Config {
    Config {
        durable_name: Some(names::shared_consumer(subscription)),
        // Each member bounds what it draws.
        max_ack_pending: -1,
        ack_wait: HELD_FOR,
        filter_subject: known.subjects[0].to_string(),
        metadata: doubt.map(Doubt::metadata).unwrap_or_default(),
        ..durable(known)
    }
}

/// The consumer of one who listens to all of a stream from now on. It goes away after its listener.
pub(crate) fn listener(known: &Known, name: String, all: String, delivery: Delivery<'_>) -> Config {
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

/// Takes no message, and gives the waiting ones of a stream the interest without which the server drops them.
pub(crate) fn keeper(all: String) -> Config {
    Config {
        durable_name: Some("schedules".to_owned()),
        filter_subject: all,
        ack_policy: AckPolicy::Explicit,
        ..Config::default()
    }
}

fn durable(known: &Known) -> Config {
    Config {
        ack_policy: AckPolicy::Explicit,
        // Of a queue everything is for its one subscription; of a stream, what is published from now on.
        deliver_policy: match known.topic.kind {
            TopicKind::Queue => DeliverPolicy::All,
            TopicKind::Stream => DeliverPolicy::New,
        },
        ..Config::default()
    }
}

/// What the next claim of a consumer has to doubt.
pub(crate) async fn doubt(link: &Link, operation: &'static str, known: &Known, before: Option<&Info>) -> Result<Doubt> {
    let server = link.info.server_id.clone();
    let metadata = before.map(|info| &info.config.metadata);
    let up_to = match metadata.and_then(|metadata| metadata.get(SERVER)) {
        None => 0,
        Some(run) if *run == server => metadata.and_then(|metadata| metadata.get(DOUBTED)?.parse().ok()).unwrap_or(0),
        Some(_) => {
            let request = format!("STREAM.INFO.{}", known.stream);
            match link.ask::<stream::Info>(operation, &known.topic.name, request, &json!({})).await? {
                Ok(info) => info.state.last_sequence,
                Err(e) => return Err(error::refused(operation, &known.topic.name, e)),
            }
        }
    };
    Ok(Doubt { server, up_to })
}

/// A consumer as it is, if it is.
pub(crate) async fn find(link: &Link, operation: &'static str, known: &Known, name: &str) -> Result<Option<Info>> {
    let request = format!("CONSUMER.INFO.{}.{name}", known.stream);
    match link.ask(operation, &known.topic.name, request, &json!({})).await? {
        Ok(info) => Ok(Some(info)),
        Err(e) if matches!(e.error_code(), ErrorCode::CONSUMER_NOT_FOUND | ErrorCode::STREAM_NOT_FOUND) => Ok(None),
        Err(e) => Err(error::refused(operation, &known.topic.name, e)),
    }
}

/// What to do with a consumer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Action {
    /// Only if there is none, or the same.
    Create,
    /// Only if there is one.
    Update,
    /// In any case.
    Either,
}

/// Creates or changes a consumer. Within the result is what the server answered.
pub(crate) async fn write(
    link: &Link,
    operation: &'static str,
    known: &Known,
    config: &Config,
    action: Action,
) -> Result<Result<Info, jetstream::Error>> {
    let (request, payload) = writing(known, config, action);
    link.ask(operation, &known.topic.name, request, &payload).await
}

/// What to publish to change a consumer without waiting for the answer.
pub(crate) fn update(link: &Link, known: &Known, config: &Config) -> Option<(Subject, Bytes)> {
    let (request, payload) = writing(known, config, Action::Update);
    Some((format!("{}.{request}", link.api).into(), serde_json::to_vec(&payload).ok()?.into()))
}

fn writing(known: &Known, config: &Config, action: Action) -> (String, serde_json::Value) {
    let name = config.durable_name.as_ref().or(config.name.as_ref()).map_or("", String::as_str);
    let request = format!("CONSUMER.CREATE.{}.{name}.{}", known.stream, config.filter_subject);
    let action = match action {
        Action::Create => "create",
        Action::Update => "update",
        Action::Either => "",
    };
    (request, json!({ "stream_name": known.stream, "config": config, "action": action }))
}

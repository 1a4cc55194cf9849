//! Claiming partitions, and what members tell each other.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use partitura_adapter_kit::{Claims, Member};
use partitura_broker::{
    Consumer, ConsumerOptions, Error, ErrorKind, Message, Ordering, Partition, Result, SubscriptionName, Topic,
    TopicKind, TopicName, telemetry,
};
use pulsar::proto::command_subscribe::SubType;
use tracing::Instrument;
use uuid::Uuid;

use crate::claim::{PulsarClaim, Wanted};
use crate::core::{Core, SYSTEM};
use crate::delay::Forwarder;
use crate::listener::Listener;
use crate::names::FullName;
use crate::producer;

const OPERATION: &str = "consume";

/// One member's view of one subscription.
#[derive(Debug)]
pub(crate) struct PulsarClaims {
    core: Arc<Core>,
    role: Role,
    /// How many bytes of each partition may be here, given out or not: of all together twice what may be out.
    bytes: usize,
    /// Of the topics: the delayed messages that this process helps to forward.
    _forwarders: Vec<Arc<Forwarder>>,
}

#[derive(Debug)]
enum Role {
    /// Whole partitions, each by an exclusive subscription.
    Owner { subscription: SubscriptionName, meeting: Meeting },
    /// Single messages, by a shared subscription.
    Competitor { subscription: SubscriptionName },
    /// All partitions, by a subscription of one's own that ends with its consumer.
    Listener { ordering: Ordering },
}

/// Where the members of a subscription hear each other.
#[derive(Debug)]
struct Meeting {
    place: FullName,
    topic: TopicName,
    listener: Listener,
}

/// Joins a subscription, or listens to a stream.
pub(crate) async fn join(core: &Arc<Core>, options: &ConsumerOptions) -> Result<Box<dyn Consumer>> {
    let span = telemetry::consumer_span(SYSTEM, &options.topics, options.subscription.as_ref());
    joined(core, options).instrument(span).await
}

async fn joined(core: &Arc<Core>, options: &ConsumerOptions) -> Result<Box<dyn Consumer>> {
    core.cluster.check(OPERATION)?;
    let mut topics = Vec::with_capacity(options.topics.len());
    for name in &options.topics {
        topics.push(core.catalog.find(OPERATION, name).await?);
        if let Some(subscription) = &options.subscription {
            core.catalog.find_subscription(OPERATION, name, subscription).await?;
        }
    }
    let ordering = agreed(&topics)?;
    let role = match &options.subscription {
        None => {
            if let Some(queue) = topics.iter().find(|topic| topic.kind == TopicKind::Queue) {
                return Err(invalid("a queue cannot be listened to; declare it as a stream").of(&queue.name));
            }
            Role::Listener { ordering }
        }
        Some(subscription) => match ordering {
            Ordering::Shared => Role::Competitor { subscription: subscription.clone() },
            Ordering::ByKey { .. } => {
                let meeting = Meeting::join(core, subscription, &options.topics).await?;
                Role::Owner { subscription: subscription.clone(), meeting }
            }
        },
    };
    let forwarders = options.topics.iter().map(|topic| core.forwarders.of(core, topic)).collect();
    let bytes = 2 * (options.credit.bytes.get() / ordering.partitions().max(1) as usize);
    let ordered = matches!(role, Role::Owner { .. });
    let claims = Arc::new(PulsarClaims { core: core.clone(), role, bytes, _forwarders: forwarders });
    Ok(match (ordered, &options.subscription, ordering) {
        (true, _, _) => Box::new(Member::ordered(claims, options, ordering.partitions(), SYSTEM)),
        (false, Some(_), _) => Box::new(Member::shared(claims, options, SYSTEM)),
        (false, None, Ordering::ByKey { partitions }) => {
            Box::new(Member::broadcast(claims, options, partitions, SYSTEM))
        }
        (false, None, Ordering::Shared) => Box::new(Member::broadcast(claims, options, 0, SYSTEM)),
    })
}

/// How all of the topics are ordered.
fn agreed(topics: &[Topic]) -> Result<Ordering> {
    let Some(first) = topics.first() else { return Err(invalid("a consumer needs at least one topic")) };
    match topics.iter().find(|topic| topic.ordering != first.ordering) {
        None => Ok(first.ordering),
        Some(other) => {
            let message = format!(
                "{:?}, and {} is {:?}; topics of one subscription are ordered alike",
                other.ordering, first.name, first.ordering
            );
            Err(invalid(&message).of(&other.name))
        }
    }
}

fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument, OPERATION, message)
}

impl Meeting {
    async fn join(core: &Arc<Core>, subscription: &SubscriptionName, topics: &[TopicName]) -> Result<Self> {
        // Whatever the order in which a member names them.
        let topic = topics.iter().min().ok_or_else(|| invalid("a consumer needs at least one topic"))?.clone();
        let place = core.catalog.namespace().members(&topic, subscription);
        let listener = Listener::new(core, place.clone(), topic.clone()).await?;
        Ok(Self { place, topic, listener })
    }
}

#[async_trait]
impl Claims for PulsarClaims {
    type Claim = PulsarClaim;

    async fn claim(&self, topic: &TopicName, partition: Partition, ahead: usize) -> Result<PulsarClaim> {
        self.core.cluster.check(OPERATION)?;
        let name = self.core.catalog.namespace().topic(topic);
        let one = |partition: Partition| (partition, name.partition(partition));
        let (partitions, subscription, kind, durable) = match &self.role {
            Role::Owner { subscription, .. } => {
                (vec![one(partition)], subscription.to_string(), SubType::Exclusive, true)
            }
            Role::Competitor { subscription } => {
                (vec![one(partition)], subscription.to_string(), SubType::Shared, true)
            }
            Role::Listener { ordering } => {
                let all = (0..ordering.partitions()).map(|partition| one(Partition(partition))).collect();
                (all, Uuid::now_v7().to_string(), SubType::Exclusive, false)
            }
        };
        let ahead = ahead.div_ceil(partitions.len().max(1));
        PulsarClaim::new(
            &self.core,
            Wanted { topic, partitions, subscription, kind, durable, ahead, bytes: self.bytes },
        )
        .await
    }

    async fn send_heartbeat(&self, heartbeat: Bytes) -> Result<()> {
        let Role::Owner { meeting, .. } = &self.role else { return Ok(()) };
        let message = Message::new(meeting.topic.clone(), "beat", heartbeat);
        producer::say(&self.core, meeting.place.clone(), message).await
    }

    async fn next_heartbeat(&self) -> Result<Bytes> {
        match &self.role {
            Role::Owner { meeting, .. } => meeting.listener.next().await.map(|message| message.payload),
            // Nobody tells these anything.
            Role::Competitor { .. } | Role::Listener { .. } => std::future::pending().await,
        }
    }
}

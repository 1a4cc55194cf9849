//! Claiming partitions, and the heartbeats of members.

use std::sync::Arc;
use std::time::Duration;

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

use crate::claim::{ClaimOptions, PulsarClaim};
use crate::core::{Core, SYSTEM};
use crate::delay::{ForwarderGuard, Forwarders};
use crate::listener::Listener;
use crate::names::FullName;
use crate::wire::Outbound;

const OPERATION: &str = "consume";
/// The time in which the broker confirms a heartbeat. The next one comes soon.
const HEARTBEAT_WITHIN: Duration = Duration::from_secs(5);

/// The claims of one member of one subscription.
#[derive(Debug)]
pub(crate) struct PulsarClaims {
    core: Arc<Core>,
    topics: Vec<TopicName>,
    role: Role,
    /// The bytes of each partition that may be here, given out or not: of all together the credit.
    bytes: usize,
    /// While they are kept, this process helps to forward the delayed messages of the topics.
    _forwarders: Vec<Arc<ForwarderGuard>>,
}

#[derive(Debug)]
enum Role {
    /// Whole partitions, each by an exclusive subscription.
    Ordered { subscription: SubscriptionName, heartbeats: Heartbeats },
    /// Single messages, by a shared subscription.
    Shared { subscription: SubscriptionName },
    /// All partitions, by a subscription of its own that ends with its consumer.
    Broadcast,
}

/// The topic of the heartbeats of a subscription's members.
#[derive(Debug)]
struct Heartbeats {
    name: FullName,
    topic: TopicName,
    listener: Listener,
}

/// Joins a subscription, or receives a stream without one.
pub(crate) async fn join(
    core: &Arc<Core>,
    forwarders: &Forwarders,
    options: &ConsumerOptions,
) -> Result<Box<dyn Consumer>> {
    let span = telemetry::consumer_span(SYSTEM, &options.topics, options.subscription.as_ref());
    open(core, forwarders, options).instrument(span).await
}

async fn open(core: &Arc<Core>, forwarders: &Forwarders, options: &ConsumerOptions) -> Result<Box<dyn Consumer>> {
    core.cluster.check(OPERATION)?;
    let mut topics = Vec::with_capacity(options.topics.len());
    for name in &options.topics {
        // Not from memory: if there are more partitions by now, this member and the others of the process learn it.
        topics.push(core.topics.look_up(OPERATION, name).await?);
        if let Some(subscription) = &options.subscription {
            core.topics.find_subscription(OPERATION, name, subscription).await?;
        }
    }
    let ordering = common_ordering(&topics)?;
    let role = match &options.subscription {
        None => {
            if let Some(queue) = topics.iter().find(|topic| topic.kind == TopicKind::Queue) {
                return Err(invalid("a queue cannot be listened to; declare it as a stream").of(&queue.name));
            }
            Role::Broadcast
        }
        Some(subscription) => match ordering {
            Ordering::Shared => Role::Shared { subscription: subscription.clone() },
            Ordering::ByKey { .. } => {
                let heartbeats = Heartbeats::join(core, subscription, &options.topics).await?;
                Role::Ordered { subscription: subscription.clone(), heartbeats }
            }
        },
    };
    let forwarders = options.topics.iter().map(|topic| forwarders.forward(core, topic)).collect();
    let bytes = options.credit.bytes.get() / ordering.partitions().max(1) as usize;
    let ordered = matches!(role, Role::Ordered { .. });
    let claims = Arc::new(PulsarClaims {
        core: core.clone(),
        topics: options.topics.clone(),
        role,
        bytes,
        _forwarders: forwarders,
    });
    Ok(match (ordered, &options.subscription, ordering) {
        (true, _, _) => Box::new(Member::ordered(claims, options, ordering.partitions(), SYSTEM)),
        (false, Some(_), _) => Box::new(Member::shared(claims, options, SYSTEM)),
        (false, None, Ordering::ByKey { partitions }) => {
            Box::new(Member::broadcast(claims, options, partitions, SYSTEM))
        }
        (false, None, Ordering::Shared) => Box::new(Member::broadcast(claims, options, 0, SYSTEM)),
    })
}

/// The ordering of the topics, which is the same for all.
fn common_ordering(topics: &[Topic]) -> Result<Ordering> {
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

impl Heartbeats {
    async fn join(core: &Arc<Core>, subscription: &SubscriptionName, topics: &[TopicName]) -> Result<Self> {
        // The same topic for all members, in any order of naming them.
        let topic = topics.iter().min().ok_or_else(|| invalid("a consumer needs at least one topic"))?.clone();
        let name = core.topics.namespace().members(&topic, subscription);
        let listener = Listener::new(core, name.clone(), topic.clone()).await?;
        Ok(Self { name, topic, listener })
    }
}

#[async_trait]
impl Claims for PulsarClaims {
    type Claim = PulsarClaim;

    async fn claim(&self, topic: &TopicName, partition: Partition, ahead: usize) -> Result<PulsarClaim> {
        self.core.cluster.check(OPERATION)?;
        let name = self.core.topics.namespace().topic(topic);
        let one = |partition: Partition| (partition, name.partition(partition));
        let (partitions, subscription, kind, durable) = match &self.role {
            Role::Ordered { subscription, .. } => {
                (vec![one(partition)], subscription.to_string(), SubType::Exclusive, true)
            }
            Role::Shared { subscription } => (vec![one(partition)], subscription.to_string(), SubType::Shared, true),
            Role::Broadcast => {
                let partitions = self.core.topics.find(OPERATION, topic).await?.ordering.partitions();
                let all = (0..partitions).map(|partition| one(Partition(partition))).collect();
                (all, Uuid::now_v7().to_string(), SubType::Exclusive, false)
            }
        };
        let ahead = ahead.div_ceil(partitions.len().max(1));
        PulsarClaim::new(
            &self.core,
            ClaimOptions { topic, partitions, subscription, kind, durable, ahead, bytes: self.bytes },
        )
        .await
    }

    async fn grown(&self, known: u32) -> u32 {
        match &self.role {
            Role::Ordered { .. } | Role::Broadcast => self.core.topics.grown(&self.topics, known).await,
            Role::Shared { .. } => std::future::pending().await,
        }
    }

    async fn send_heartbeat(&self, heartbeat: Bytes) -> Result<()> {
        const OPERATION: &str = "send a heartbeat";
        let Role::Ordered { heartbeats, .. } = &self.role else { return Ok(()) };
        self.core.cluster.check(OPERATION)?;
        let message = Outbound::new(Message::new(heartbeats.topic.clone(), "beat", heartbeat));
        let publisher = &self.core.publisher;
        let sent = publisher.publish(OPERATION, heartbeats.name.clone(), vec![message], HEARTBEAT_WITHIN).await;
        sent.into_iter().collect::<Result<Vec<_>>>().map(drop)
    }

    async fn next_heartbeat(&self) -> Result<Bytes> {
        match &self.role {
            Role::Ordered { heartbeats, .. } => heartbeats.listener.next().await.map(|message| message.payload),
            // These have no membership.
            Role::Shared { .. } | Role::Broadcast => std::future::pending().await,
        }
    }
}

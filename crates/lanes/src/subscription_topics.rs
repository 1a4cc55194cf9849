use std::num::NonZeroUsize;

use partitura_broker::{
    ConsumerOptions, Credit, MAX_NAME, Ordering, Result, SubscriptionName, TopicKind, TopicName, Topology, joined,
};

use crate::LaneOptions;

/// The last parts of the names of topics that lanes keep for a subscription.
const PARKING: &str = "parking";
const DEAD: &str = "dead";

/// A subscription, its topic, and the topics beside it that lanes keep.
///
/// | topic | what for |
/// |---|---|
/// | `<topic>.<subscription>.parking` | messages held too long; partitioned as the topic, and owned together with it |
/// | `<topic>.<subscription>.dead` | messages given up; one partition, read by the subscription `admin` |
///
/// No two subscriptions share these topics, whatever the names of topic and subscription are, and however long:
/// see [`joined`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionTopics {
    topic: TopicName,
    subscription: Option<SubscriptionName>,
    ordering: Ordering,
}

impl SubscriptionTopics {
    /// The durable `subscription` of `topic`, which is ordered like this.
    pub fn new(topic: TopicName, subscription: SubscriptionName, ordering: Ordering) -> Self {
        Self { topic, subscription: Some(subscription), ordering }
    }

    /// Everything published to the stream `topic` from now on, not durable. There are no dead letters: a message that
    /// is given up is logged and dropped.
    pub fn broadcast(topic: TopicName) -> Self {
        Self { topic, subscription: None, ordering: Ordering::Shared }
    }

    /// The topic.
    pub fn topic(&self) -> &TopicName {
        &self.topic
    }

    /// The subscription; `None` for a broadcast.
    pub fn subscription(&self) -> Option<&SubscriptionName> {
        self.subscription.as_ref()
    }

    /// How the topic is ordered.
    pub fn ordering(&self) -> Ordering {
        self.ordering
    }

    /// Where messages are parked; `None` for a broadcast.
    ///
    /// # Errors
    /// Those of building a name, which always fits.
    pub fn parking_topic(&self) -> Result<Option<TopicName>> {
        self.derived(PARKING)
    }

    /// Where dead letters go; `None` for a broadcast.
    ///
    /// # Errors
    /// Those of building a name, which always fits.
    pub fn dead_topic(&self) -> Result<Option<TopicName>> {
        self.derived(DEAD)
    }

    /// Adds the subscription, its dead letters, and its parking where wanted, to a topology. The topic itself has to be
    /// in it, or declared already.
    ///
    /// # Errors
    /// Those of building names, which always fit.
    pub fn declare(&self, mut topology: Topology, parking: bool) -> Result<Topology> {
        let Some(subscription) = &self.subscription else { return Ok(topology) };
        let mut covered = vec![self.topic.clone()];
        if let (true, Some(parked)) = (parking, self.parking_topic()?) {
            topology = topology.queue(parked.clone(), self.ordering);
            covered.push(parked);
        }
        topology = topology.subscription(subscription.clone(), covered);
        if let Some(dead) = self.dead_topic()? {
            topology = topology.queue(dead.clone(), Ordering::ByKey { partitions: 1 }).subscription(admin()?, [dead]);
        }
        Ok(topology)
    }

    /// Adds a queue with this subscription, its dead letters, and its parking where wanted, to a topology.
    ///
    /// # Errors
    /// As [`declare`](Self::declare).
    pub fn declare_queue(&self, topology: Topology, parking: bool) -> Result<Topology> {
        let Self { topic, ordering, .. } = self;
        let kind = TopicKind::Queue;
        self.declare(
            topology.topic(partitura_broker::Topic { name: topic.clone(), kind, ordering: *ordering }),
            parking,
        )
    }

    pub(crate) fn consumer(&self, options: &LaneOptions) -> Result<ConsumerOptions> {
        let joined = match &self.subscription {
            None => ConsumerOptions::broadcast(self.topic.clone()),
            Some(subscription) => {
                let parking = if options.parking { self.parking_topic()? } else { None };
                ConsumerOptions::new(subscription.clone(), [self.topic.clone()].into_iter().chain(parking))
            }
        };
        Ok(joined.credit(self.credit(options)).revoke_within(options.revoke_within))
    }

    /// With parking a few markers for each partition have to fit in as well.
    fn credit(&self, options: &LaneOptions) -> Credit {
        const MARKERS: usize = 8;
        let partitions = self.ordering.partitions() as usize;
        let least = NonZeroUsize::new(if options.parking { MARKERS * partitions } else { 1 });
        Credit { messages: options.credit.messages.max(least.unwrap_or(NonZeroUsize::MIN)), ..options.credit }
    }

    fn derived(&self, what: &str) -> Result<Option<TopicName>> {
        let name = |subscription| {
            let joined = joined(&self.topic, subscription, MAX_NAME - 1 - what.len());
            TopicName::new(format!("{joined}.{what}"))
        };
        Ok(self.subscription.as_ref().map(name).transpose()?)
    }
}

/// Whether a topic has a name that is reserved for the topics that lanes keep.
pub(crate) fn is_reserved(topic: &TopicName) -> bool {
    topic.as_str().rsplit_once('.').is_some_and(|(_, last)| last == PARKING || last == DEAD)
}

/// The subscription of all dead-letter topics.
pub(crate) fn admin() -> Result<SubscriptionName> {
    Ok(SubscriptionName::new("admin")?)
}

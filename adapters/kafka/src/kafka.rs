use std::sync::{Arc, Mutex, PoisonError, Weak};

use async_trait::async_trait;
use partitura_adapter_kit::Member;
use partitura_broker::{
    Broker, Capabilities, Consumer, ConsumerOptions, CorrectedClock, Error, ErrorKind, Inbox, Producer,
    ProducerOptions, Result, SubscriptionName, TopicKind, TopicName, Topology,
};
use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::Producer as _;

use crate::claims::{BroadcastClaims, SharedClaims};
use crate::client::REQUEST_TIMEOUT;
use crate::consumer::{Driver, KafkaConsumer, Membership};
use crate::core::{Core, SYSTEM};
use crate::delay::DelayForwarders;
use crate::forwarding_consumer::ForwardingConsumer;
use crate::inbox::KafkaInbox;
use crate::options::Options;
use crate::producer::KafkaProducer;
use crate::{error, names, subscription, topology};

/// A connection to Apache Kafka, 3.7 or later.
#[derive(Debug)]
pub struct Kafka {
    core: Arc<Core>,
    forwarders: DelayForwarders,
    driver: Arc<Driver>,
    /// The consumers that are members of a group. They leave it with the close.
    members: Mutex<Vec<Weak<Membership>>>,
}

impl Kafka {
    /// Connects to the brokers that the URL names: see [`Options`].
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for a URL or a setting that is not valid,
    /// [`Unauthorized`](ErrorKind::Unauthorized) if the brokers refuse the credentials or their certificate is not
    /// trusted, [`Disconnected`](ErrorKind::Disconnected) if none answers within ten seconds, or
    /// none that answers tells its settings within thirty.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn connect(url: &str, options: Options) -> Result<Self> {
        let core = Arc::new(Core::connect(url, options).await?);
        Ok(Self { core, forwarders: DelayForwarders::default(), driver: Arc::default(), members: Mutex::default() })
    }

    /// The admin client of this connection, for requests that the contract does not have. `None` after the close.
    pub fn client(&self) -> Option<Arc<AdminClient<DefaultClientContext>>> {
        self.core.client.admin().ok()
    }

    async fn broadcast(&self, options: &ConsumerOptions, first: &TopicName) -> Result<Box<dyn Consumer>> {
        for topic in &options.topics {
            if self.core.topics.route(topic).await?.kind == Some(TopicKind::Queue) {
                let text = "a queue has one subscription and cannot be listened to; declare a stream";
                return Err(Error::new(ErrorKind::InvalidArgument, "consumer", text).of(topic));
            }
        }
        let claims = Arc::new(BroadcastClaims::open(self.core.clone(), &options.topics).await?);
        let route = self.core.topics.route(first).await?;
        let partitions = if route.shared { 0 } else { route.partitions };
        Ok(Box::new(Member::broadcast(claims, options, partitions, SYSTEM)))
    }

    async fn shared(&self, options: &ConsumerOptions, subscription: &SubscriptionName) -> Result<Box<dyn Consumer>> {
        let group = names::group(subscription, &options.topics);
        subscription::verify(&self.core, &group, &options.topics).await?;
        let claims = SharedClaims { core: self.core.clone(), subscription: subscription.clone(), group };
        Ok(Box::new(Member::shared(Arc::new(claims), options, SYSTEM)))
    }

    async fn ordered(&self, options: &ConsumerOptions, subscription: &SubscriptionName) -> Result<Box<dyn Consumer>> {
        let leases = self.forwarders.leases(&self.core)?;
        let consumer = KafkaConsumer::start(&self.core, options, subscription, leases, self.driver.clone()).await?;
        self.leave_on_close(consumer.membership());
        consumer.joined().await;
        Ok(Box::new(consumer))
    }

    fn leave_on_close(&self, member: &Arc<Membership>) {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.retain(|member| member.strong_count() > 0);
        members.push(Arc::downgrade(member));
        if self.core.is_closed() {
            member.close();
        }
    }
}

#[async_trait]
impl Broker for Kafka {
    fn capabilities(&self) -> &Capabilities {
        &self.core.capabilities
    }

    fn clock(&self) -> CorrectedClock {
        self.core.clock.clone()
    }

    async fn declare(&self, topology: &Topology) -> Result<()> {
        self.core.client.ensure_open("declare")?;
        topology::declare(&self.core, topology).await
    }

    async fn producer(&self, options: ProducerOptions) -> Result<Box<dyn Producer>> {
        self.core.client.ensure_open("producer")?;
        Ok(Box::new(KafkaProducer::new(self.core.clone(), options)))
    }

    async fn consumer(&self, options: ConsumerOptions) -> Result<Box<dyn Consumer>> {
        options.validate()?;
        self.core.client.ensure_open("consumer")?;
        let first = &options.topics[0];
        let shared = self.core.topics.route(first).await?.shared;
        let mut forwarders = Vec::with_capacity(options.topics.len());
        for topic in &options.topics {
            // The owner of a partition of a queue forwards its delayed messages.
            if !self.core.topics.route(topic).await?.is_forwarded_by_owners() {
                forwarders.push(self.forwarders.get(&self.core, topic)?);
            }
        }
        let consumer = match &options.subscription {
            None => self.broadcast(&options, first).await?,
            Some(subscription) if shared => self.shared(&options, subscription).await?,
            Some(subscription) => self.ordered(&options, subscription).await?,
        };
        Ok(Box::new(ForwardingConsumer::new(consumer, forwarders)))
    }

    async fn inbox(&self) -> Result<Box<dyn Inbox>> {
        self.core.client.ensure_open("inbox")?;
        Ok(Box::new(KafkaInbox::open(&self.core).await?))
    }

    fn has_subscribers(&self, _topic: &TopicName) -> bool {
        // Streams are kept for their retention: a subscriber may come within that time.
        true
    }

    async fn close(&self) -> Result<()> {
        // It may be closed already.
        let Some(producer) = self.core.client.close() else { return Ok(()) };
        let members: Vec<_> = self.members.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect();
        let members: Vec<_> = members.iter().filter_map(Weak::upgrade).collect();
        members.iter().for_each(|member| member.close());
        self.core.stop_all();
        for member in members {
            member.gone().await;
        }
        let flushed = tokio::task::spawn_blocking(move || producer.raw().flush(REQUEST_TIMEOUT)).await;
        flushed.map_err(|_| error::closed("close"))?.map_err(|source| error::error("close", source))
    }
}

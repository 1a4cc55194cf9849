//! Declaring topics and subscriptions, and what is known of topics.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use partitura_broker::{
    DeclareMode, Error, ErrorKind, Ordering, Partition, Result, SubscriptionName, Topic, TopicKind, TopicName, Topology,
};
use pulsar::proto::command_subscribe::SubType;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::admin::{Admin, Partitioned};
use crate::names::{FullName, Namespace, TIMERS};
use crate::session::command::Subscribe;
use crate::session::{Cluster, Purpose};

/// The properties by which a topic says what it was declared as.
const KIND: &str = "partitura-kind";
const ORDERING: &str = "partitura-ordering";
const OPERATION: &str = "declare";
/// How many calls of the admin API are under way at once.
const AT_ONCE: usize = 16;

/// What there is, as far as it was asked for. A topic's properties never change.
#[derive(Debug)]
pub(crate) struct Catalog {
    admin: Admin,
    cluster: Arc<Cluster>,
    namespace: Namespace,
    known: Mutex<HashMap<TopicName, Topic>>,
}

impl Catalog {
    pub(crate) fn new(admin: Admin, cluster: Arc<Cluster>, namespace: Namespace) -> Self {
        Self { admin, cluster, namespace, known: Mutex::default() }
    }

    pub(crate) fn admin(&self) -> &Admin {
        &self.admin
    }

    pub(crate) fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// What a topic was declared as, where that is known already.
    pub(crate) fn known(&self, name: &TopicName) -> Option<Topic> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// What a topic was declared as.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) where there is none.
    pub(crate) async fn find(&self, operation: &'static str, name: &TopicName) -> Result<Topic> {
        if let Some(known) = self.known(name) {
            return Ok(known);
        }
        let found = self.admin.partitioned(operation, &self.namespace.topic(name)).await?;
        let found = found.ok_or_else(|| missing(operation, name))?;
        let topic = read(operation, name, &found)?;
        self.remember(topic.clone());
        Ok(topic)
    }

    /// That a subscription was declared.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) where it was not.
    pub(crate) async fn find_subscription(
        &self,
        operation: &'static str,
        topic: &TopicName,
        subscription: &SubscriptionName,
    ) -> Result<()> {
        let name = self.namespace.topic(topic).partition(Partition(0));
        match self.admin.has_subscription(operation, &name, subscription.as_str()).await? {
            true => Ok(()),
            false => {
                let message = format!("there is no subscription {subscription}; declare it first");
                Err(Error::new(ErrorKind::NotFound, operation, message).of(topic))
            }
        }
    }

    fn remember(&self, topic: Topic) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(topic.name.clone(), topic);
    }

    /// Creates, or verifies. See [`Broker::declare`](partitura_broker::Broker::declare).
    pub(crate) async fn declare(self: &Arc<Self>, topology: &Topology) -> Result<()> {
        topology.validate()?;
        let mode = topology.mode;
        let mut jobs: JoinSet<Result<()>> = JoinSet::new();
        for topic in topology.topics.clone() {
            let this = self.clone();
            next(&mut jobs, async move { this.declare_topic(mode, topic).await }).await?;
        }
        all(&mut jobs).await?;
        for subscription in topology.subscriptions.clone() {
            for topic in subscription.topics {
                let (this, name) = (self.clone(), subscription.name.clone());
                next(&mut jobs, async move { this.declare_subscription(mode, &topic, &name).await }).await?;
            }
        }
        all(&mut jobs).await
    }

    async fn declare_topic(&self, mode: DeclareMode, topic: Topic) -> Result<()> {
        let name = self.namespace.topic(&topic.name);
        let mut found = self.admin.partitioned(OPERATION, &name).await?;
        if found.is_none() && mode == DeclareMode::Create {
            self.admin.create(OPERATION, &name, &properties(&topic)).await?;
            // Another may have been quicker, and have wanted something else.
            found = self.admin.partitioned(OPERATION, &name).await?;
        }
        let found = found.ok_or_else(|| missing(OPERATION, &topic.name))?;
        compare(&topic, &read(OPERATION, &topic.name, &found)?)?;
        if mode == DeclareMode::Create {
            let timers = self.namespace.timers(&topic.name);
            let one = Partitioned { partitions: 1, properties: BTreeMap::new() };
            self.admin.create(OPERATION, &timers, &one).await?;
            self.subscribe(timers.partition(Partition(0)), TIMERS, SubType::Shared).await?;
        }
        self.remember(topic);
        Ok(())
    }

    async fn declare_subscription(
        &self,
        mode: DeclareMode,
        topic: &TopicName,
        subscription: &SubscriptionName,
    ) -> Result<()> {
        let found = self.find(OPERATION, topic).await?;
        match mode {
            DeclareMode::Verify => self.find_subscription(OPERATION, topic, subscription).await,
            DeclareMode::Create => {
                let partitions = (0..found.ordering.partitions()).map(Partition);
                let name = self.namespace.topic(topic);
                let kind = if found.ordering == Ordering::Shared { SubType::Shared } else { SubType::Exclusive };
                for partition in partitions {
                    self.subscribe(name.partition(partition), subscription.as_str(), kind).await?;
                }
                Ok(())
            }
        }
    }

    /// Creates a durable subscription where there is none. It begins with what is published next.
    ///
    /// By the broker's protocol: the admin API sets one that another creates at this moment to its beginning again, past
    /// what was published to it meanwhile.
    async fn subscribe(&self, topic: FullName, subscription: &str, kind: SubType) -> Result<()> {
        if self.admin.has_subscription(OPERATION, &topic, subscription).await? {
            return Ok(());
        }
        let connection = self.cluster.serving(OPERATION, &topic, Purpose::Consume).await?;
        let subscribe = Subscribe {
            topic: topic.to_string(),
            subscription: subscription.to_owned(),
            kind,
            durable: true,
            create: true,
        };
        let (nobody, _) = mpsc::unbounded_channel();
        match connection.subscribe(OPERATION, &subscribe, 0, nobody).await {
            Ok(registered) => registered.close(OPERATION).await,
            // Then it is there, and somebody has it.
            Err(error) if error.kind() == ErrorKind::Busy => Ok(()),
            Err(error) => Err(error.of(topic)),
        }
    }
}

/// Starts another job when there is room for it.
async fn next(jobs: &mut JoinSet<Result<()>>, job: impl Future<Output = Result<()>> + Send + 'static) -> Result<()> {
    if jobs.len() >= AT_ONCE {
        done(jobs.join_next().await)?;
    }
    jobs.spawn(job);
    Ok(())
}

async fn all(jobs: &mut JoinSet<Result<()>>) -> Result<()> {
    while !jobs.is_empty() {
        done(jobs.join_next().await)?;
    }
    Ok(())
}

fn done(job: Option<Result<Result<()>, tokio::task::JoinError>>) -> Result<()> {
    match job {
        Some(Err(stopped)) => {
            let message = "the runtime is shutting down";
            Err(Error::new(ErrorKind::Closed, OPERATION, message).because(stopped))
        }
        Some(Ok(result)) => result,
        None => Ok(()),
    }
}

fn missing(operation: &'static str, topic: &TopicName) -> Error {
    Error::new(ErrorKind::NotFound, operation, "there is no such topic; declare it first").of(topic)
}

fn properties(topic: &Topic) -> Partitioned {
    let kind = match topic.kind {
        TopicKind::Queue => "queue",
        TopicKind::Stream => "stream",
    };
    let ordering = match topic.ordering {
        Ordering::ByKey { .. } => "key",
        Ordering::Shared => "shared",
    };
    let properties = [(KIND, kind), (ORDERING, ordering)].map(|(name, value)| (name.to_owned(), value.to_owned()));
    Partitioned { partitions: topic.ordering.partitions(), properties: properties.into() }
}

/// What a topic says that it was declared as.
fn read(operation: &'static str, name: &TopicName, found: &Partitioned) -> Result<Topic> {
    let of = |property: &str| found.properties.get(property).map(String::as_str);
    let kind = match of(KIND) {
        Some("queue") => Some(TopicKind::Queue),
        Some("stream") => Some(TopicKind::Stream),
        _ => None,
    };
    let ordering = match of(ORDERING) {
        Some("key") => Some(Ordering::ByKey { partitions: found.partitions }),
        Some("shared") => Some(Ordering::Shared),
        _ => None,
    };
    let (Some(kind), Some(ordering)) = (kind, ordering) else {
        let message = format!(
            "the topic was not declared by Partitura; its properties should say {KIND}=queue or stream, and \
             {ORDERING}=key or shared, and are {:?}",
            found.properties
        );
        return Err(Error::new(ErrorKind::Incompatible, operation, message).of(name));
    };
    Ok(Topic { name: name.clone(), kind, ordering })
}

fn compare(wanted: &Topic, found: &Topic) -> Result<()> {
    if wanted == found {
        return Ok(());
    }
    let message = format!(
        "the topic exists and differs: wanted is a {:?}, {:?}; there is a {:?}, {:?}",
        wanted.kind, wanted.ordering, found.kind, found.ordering
    );
    Err(Error::new(ErrorKind::Incompatible, OPERATION, message).of(&wanted.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(kind: TopicKind, ordering: Ordering) -> Topic {
        Topic { name: TopicName::new("orders").expect("a name"), kind, ordering }
    }

    #[test]
    fn a_topic_says_what_it_was_declared_as() {
        for kind in [TopicKind::Queue, TopicKind::Stream] {
            for ordering in [Ordering::Shared, Ordering::ByKey { partitions: 1 }, Ordering::ByKey { partitions: 8 }] {
                let topic = topic(kind, ordering);
                assert_eq!(read(OPERATION, &topic.name, &properties(&topic)).expect("what we wrote"), topic);
            }
        }
    }

    #[test]
    fn what_differs_and_what_is_not_ours_is_incompatible_and_says_so() {
        let wanted = topic(TopicKind::Queue, Ordering::ByKey { partitions: 4 });
        let found = topic(TopicKind::Queue, Ordering::ByKey { partitions: 8 });
        let error = compare(&wanted, &found).expect_err("they differ");
        assert_eq!(error.kind(), ErrorKind::Incompatible);
        assert!(error.to_string().contains("partitions: 4") && error.to_string().contains("partitions: 8"), "{error}");
        let plain = Partitioned { partitions: 4, properties: BTreeMap::new() };
        assert_eq!(read(OPERATION, &wanted.name, &plain).expect_err("no properties").kind(), ErrorKind::Incompatible);
    }
}

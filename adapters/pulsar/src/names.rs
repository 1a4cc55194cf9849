//! Partitura's names as Pulsar's, one to one.
//!
//! Pulsar calls the partitions of `orders` `orders-partition-0`, `orders-partition-1`, …, and would take a topic of
//! that name for one of them. Our names never contain `=`. So one is put into every `-partition` of ours, and topics
//! of the adapter itself have one, too.

use partitura_broker::{InboxAddress, Partition, SubscriptionName, TopicName};

/// The subscription by which the timers of a topic are received.
pub(crate) const TIMERS: &str = "forwarder";
/// The subscription of the process that forwards them. It receives nothing.
pub(crate) const FORWARDING: &str = "forwarding";

/// The namespace of the topics: `tenant/namespace`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Namespace(pub(crate) String);

/// A topic as Pulsar knows it, partitioned or not.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FullName {
    persistent: bool,
    /// `tenant/namespace`
    namespace: String,
    /// Without `/`.
    local: String,
}

impl Namespace {
    /// The partitioned topic of one of ours.
    pub(crate) fn topic(&self, topic: &TopicName) -> FullName {
        self.persistent(escaped(topic))
    }

    /// The messages that wait until they are due, and then go to `topic`.
    pub(crate) fn timers(&self, topic: &TopicName) -> FullName {
        self.persistent(format!("{}=timers", escaped(topic)))
    }

    /// The heartbeats of the members of a subscription.
    pub(crate) fn members(&self, topic: &TopicName, subscription: &SubscriptionName) -> FullName {
        self.volatile(format!("{}={subscription}=members", escaped(topic)))
    }

    /// A new inbox.
    pub(crate) fn inbox(&self) -> FullName {
        self.volatile(format!("inbox={}", InboxAddress::secret()))
    }

    /// The inbox of an address; `None` if it is not the address of an inbox.
    pub(crate) fn inbox_at(&self, address: &str) -> Option<FullName> {
        let (namespace, local) = address.rsplit_once('/')?;
        let is_inbox = local.strip_prefix("inbox=").is_some_and(InboxAddress::is_secret);
        (is_inbox && namespace == self.0).then(|| self.volatile(local.to_owned()))
    }

    fn persistent(&self, local: String) -> FullName {
        FullName { persistent: true, namespace: self.0.clone(), local }
    }

    fn volatile(&self, local: String) -> FullName {
        FullName { persistent: false, namespace: self.0.clone(), local }
    }
}

impl FullName {
    /// One partition of it.
    pub(crate) fn partition(&self, partition: Partition) -> Self {
        Self { local: format!("{}-partition-{partition}", self.local), ..self.clone() }
    }

    /// The path in the admin API, after `/admin/v2/`.
    pub(crate) fn path(&self) -> String {
        let domain = if self.persistent { "persistent" } else { "non-persistent" };
        format!("{domain}/{}/{}", self.namespace, encoded(&self.local))
    }

    /// The address of an inbox: text that any process on the same cluster understands.
    pub(crate) fn address(&self) -> String {
        format!("{}/{}", self.namespace, self.local)
    }
}

impl std::fmt::Display for FullName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let domain = if self.persistent { "persistent" } else { "non-persistent" };
        write!(f, "{domain}://{}/{}", self.namespace, self.local)
    }
}

/// A segment of a path. All characters of our names are permitted in it, except for `=`, which some proxies refuse.
fn encoded(segment: &str) -> String {
    segment.replace('=', "%3D")
}

fn escaped(topic: &TopicName) -> String {
    topic.as_str().replace("-partition", "-=partition")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace() -> Namespace {
        Namespace("public/default".into())
    }

    fn full(topic: &str) -> String {
        namespace().topic(&TopicName::new(topic).expect("a name")).to_string()
    }

    #[test]
    fn a_topic_is_never_taken_for_a_partition_of_another() {
        assert_eq!(full("Orders.v2_x-1"), "persistent://public/default/Orders.v2_x-1");
        assert_eq!(full("orders-partition-0"), "persistent://public/default/orders-=partition-0");
        let orders = namespace().topic(&TopicName::new("orders").expect("a name"));
        assert_eq!(orders.partition(Partition(0)).to_string(), "persistent://public/default/orders-partition-0");
        // They overlap by a dash, and both have to go.
        assert!(!full("a-partition-partition-1").contains("-partition-1"));
    }

    #[test]
    fn a_path_has_no_reserved_character() {
        let timers = namespace().timers(&TopicName::new("a").expect("a name"));
        assert_eq!(timers.path(), "persistent/public/default/a%3Dtimers");
    }

    #[test]
    fn only_an_address_of_an_inbox_leads_to_one() {
        let inbox = namespace().inbox();
        assert_eq!(namespace().inbox_at(&inbox.address()), Some(inbox));
        for stranger in ["", "x", "public/default/orders", "public/default/inbox=", "other/one/inbox=1", "a/inbox=/x"] {
            assert_eq!(namespace().inbox_at(stranger), None, "{stranger}");
        }
    }
}

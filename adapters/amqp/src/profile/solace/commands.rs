//! The commands by which an operator makes the queues.

use std::fmt::Write;

use partitura_broker::{Ordering, Partition, Topology};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value as Json, json};

use super::names;

/// Returns a shell script that makes the queues of a topology by SEMP v2, Solace's interface for operators. It reads
/// the address, the credentials and the message VPN from its environment. Queues that exist already are left as they
/// are.
pub(crate) fn commands(topology: &Topology) -> String {
    let mut script = String::from(HEAD);
    for topic in &topology.topics {
        write_queue(&mut script, &names::description(&topic.name), true, None);
        write_queue(&mut script, &names::due(&topic.name), true, None);
    }
    for subscription in &topology.subscriptions {
        let covered = topology.topics.iter().filter(|topic| subscription.topics.contains(&topic.name));
        for topic in covered {
            for partition in 0..topic.ordering.partitions().max(1) {
                let queue = names::queue(&topic.name, &subscription.name, Partition(partition));
                let messages = names::messages(&topic.name, &partition.to_string());
                write_queue(&mut script, &queue, topic.ordering != Ordering::Shared, Some(&messages));
            }
        }
    }
    script
}

const HEAD: &str = r#"#!/bin/sh
# SEMP=https://host:943 VPN=default SEMP_USER=admin SEMP_PASSWORD=…
post() {
  curl --silent --show-error --user "$SEMP_USER:$SEMP_PASSWORD" --header 'content-type: application/json' \
    --data "$2" "$SEMP/SEMP/v2/config/msgVpns/$VPN/$1"
}
"#;

fn write_queue(script: &mut String, name: &str, is_exclusive: bool, topic: Option<&str>) {
    let mut queue = json!({
        "queueName": name,
        "accessType": if is_exclusive { "exclusive" } else { "non-exclusive" },
        "permission": "consume",
        "ingressEnabled": true,
        "egressEnabled": true,
        "maxRedeliveryCount": 0,
        "respectTtlEnabled": false,
    });
    if is_exclusive {
        queue["maxBindCount"] = json!(1);
    }
    write_post(script, "queues", &queue);
    if let Some(topic) = topic {
        let path = format!("queues/{}/subscriptions", utf8_percent_encode(name, NON_ALPHANUMERIC));
        write_post(script, &path, &json!({ "subscriptionTopic": topic }));
    }
}

fn write_post(script: &mut String, path: &str, body: &Json) {
    // Names have neither quotes nor backslashes. Writing to a text cannot fail.
    let _ = writeln!(script, "post '{path}' '{body}'");
}

#[cfg(test)]
mod tests {
    use partitura_broker::{SubscriptionName, TopicName};

    use super::*;

    #[test]
    fn each_partition_has_a_queue_for_one_consumer_and_its_topic() {
        let orders = TopicName::new("orders").expect("a name");
        let billing = SubscriptionName::new("billing").expect("a name");
        let topology =
            Topology::new().queue(orders.clone(), Ordering::ByKey { partitions: 2 }).subscription(billing, [orders]);
        let script = commands(&topology);
        let queues = script.lines().filter(|line| line.starts_with("post 'queues' ")).collect::<Vec<_>>();
        assert_eq!(queues.len(), 4, "{script}");
        assert!(queues.iter().all(|queue| queue.contains(r#""maxBindCount":1"#)), "{script}");
        let last = script.lines().last().expect("a line");
        let expected = r#"post 'queues/partitura%2Forders%2Fbilling%2F1/subscriptions' '{"subscriptionTopic":"partitura/t/orders/1"}'"#;
        assert_eq!(last, expected);
    }
}

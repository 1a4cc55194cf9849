//! Connections with few channels.

use partitura_broker::{Broker, Consumer, ConsumerOptions, SubscriptionName, SystemClock, TopicName, Topology};
use partitura_broker::{Clock, Ordering};
use partitura_rabbitmq::{Options, Rabbitmq};
use partitura_servers::{Kind, Server};
use tokio::time::timeout;

use crate::{PARTITIONS, TEST_TIMEOUT, broker, owns};

/// Enough for one consumer of the partitions here, and not for two.
const CHANNEL_MAX: u32 = 14;
/// More consumers than connections that are made before they share.
const CONSUMERS: usize = 6;

/// A broker whose connections have few channels, as if the server allowed no more.
async fn with_few_channels() -> Rabbitmq {
    broker().await.close().await.expect("closed");
    let url = format!("{}?channel_max={CHANNEL_MAX}", Server::new(Kind::Rabbitmq).url());
    Rabbitmq::connect(&url, Options::default()).await.expect("connected")
}

/// Declares a queue with its reader.
async fn declared(broker: &Rabbitmq, name: &str, partitions: u32) -> ConsumerOptions {
    let topic = TopicName::new(format!("{name}-{}", SystemClock.now().as_millis())).expect("a name");
    let subscription = SubscriptionName::new("readers").expect("a name");
    let topology = Topology::new()
        .queue(topic.clone(), Ordering::ByKey { partitions })
        .subscription(subscription.clone(), [topic.clone()]);
    broker.declare(&topology).await.expect("declared");
    ConsumerOptions::new(subscription, [topic])
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_do_not_share_a_connection_that_has_too_few_channels_for_them() {
    let broker = with_few_channels().await;
    let mut members: Vec<Box<dyn Consumer>> = Vec::new();
    for number in 0..CONSUMERS {
        let options = declared(&broker, &format!("few-channels-{number}"), PARTITIONS).await;
        let mut member = broker.consumer(options).await.expect("a member");
        let owned = timeout(TEST_TIMEOUT, owns(&mut member, PARTITIONS)).await;
        owned.unwrap_or_else(|_| panic!("consumer {number} does not get its partitions"));
        members.push(member);
    }
    broker.close().await.expect("closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_needs_more_channels_than_a_connection_has_gets_another_connection() {
    let broker = with_few_channels().await;
    let options = declared(&broker, "more-channels", 2 * CHANNEL_MAX).await;
    for owner in ["first", "second"] {
        let mut member = broker.consumer(options.clone()).await.expect("a member");
        let owned = timeout(TEST_TIMEOUT, owns(&mut member, 2 * CHANNEL_MAX)).await;
        owned.unwrap_or_else(|_| panic!("the {owner} owner does not get all partitions"));
        member.close().await.expect("closed");
    }
    broker.close().await.expect("closed");
}

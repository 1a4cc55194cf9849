//! Tests of RabbitMQ's own behaviour, which the conformance suite does not check, on a real server.

mod channels;
mod operator;

use std::time::Duration;

use partitura_broker::{
    Broker, Clock, Consumer, ConsumerOptions, Event, Message, Ordering, ProducerOptions, SubscriptionName, SystemClock,
    TopicName, Topology,
};
use partitura_rabbitmq::{Options, Rabbitmq};
use partitura_servers::{Kind, Server};
use tokio::time::timeout;

const PARTITIONS: u32 = 4;
/// Only a test that is stuck takes this long.
const TEST_TIMEOUT: Duration = Duration::from_secs(60);

/// More than the server's own limit, which is 20 since 4.0.
const OWNERS: usize = 30;

async fn broker() -> Rabbitmq {
    let server = Server::new(Kind::Rabbitmq);
    tokio::task::spawn_blocking(move || server.up()).await.expect("no panic").expect("a server");
    Rabbitmq::connect(&Server::new(Kind::Rabbitmq).url(), Options::default()).await.expect("connected")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_comes_back_more_often_than_the_servers_limit_is_not_dropped() {
    let broker = broker().await;
    let topic = TopicName::new(format!("comes-back-{}", SystemClock.now().as_millis())).expect("a name");
    let subscription = SubscriptionName::new("readers").expect("a name");
    let topology = Topology::new()
        .queue(topic.clone(), Ordering::ByKey { partitions: 1 })
        .subscription(subscription.clone(), [topic.clone()]);
    broker.declare(&topology).await.expect("declared");
    let producer = broker.producer(ProducerOptions::default()).await.expect("a producer");
    let sent = producer.publish(vec![Message::new(topic.clone(), "poison", "").key("a")]).await;
    sent.into_iter().collect::<Result<Vec<_>, _>>().expect("published");
    for owner in 0..OWNERS {
        let options = ConsumerOptions::new(subscription.clone(), [topic.clone()]);
        let mut consumer = broker.consumer(options).await.expect("a member");
        let delivered = timeout(TEST_TIMEOUT, is_delivered(&mut consumer)).await;
        delivered.unwrap_or_else(|_| panic!("owner {owner} does not get it"));
        // The consumer settles nothing: the broker puts the message back.
        drop(consumer);
    }
    broker.close().await.expect("closed");
}

async fn is_delivered(member: &mut Box<dyn Consumer>) {
    while !matches!(member.next().await.expect("an event"), Event::Deliveries(_)) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_its_deadline_cuts_short_frees_the_partitions_all_the_same() {
    let broker = broker().await;
    // The server decides how long a release takes. One of these times ends in the middle of it.
    for millis in [1, 2, 3, 5, 8, 12, 18, 27, 40] {
        let topic = TopicName::new(format!("cut-short-{}-{millis}", SystemClock.now().as_millis())).expect("a name");
        let subscription = SubscriptionName::new("readers").expect("a name");
        let topology = Topology::new()
            .queue(topic.clone(), Ordering::ByKey { partitions: PARTITIONS })
            .subscription(subscription.clone(), [topic.clone()]);
        broker.declare(&topology).await.expect("declared");
        let options = ConsumerOptions::new(subscription, [topic]);
        let hasty = options.clone().revoke_within(Duration::from_millis(millis));
        let mut first = broker.consumer(hasty).await.expect("a member");
        timeout(TEST_TIMEOUT, owns(&mut first, PARTITIONS)).await.expect("all of it is the only member's");
        let releasing = tokio::spawn(release_all_that_is_asked_for(first));
        let mut second = broker.consumer(options).await.expect("a member");
        let share = timeout(TEST_TIMEOUT, owns(&mut second, 1)).await;
        share.unwrap_or_else(|_| panic!("revoked within {millis} ms, a partition stayed locked"));
        // Alone, it gets the other partitions, too: the first consumer has kept none.
        releasing.abort();
        let rest = timeout(TEST_TIMEOUT, owns(&mut second, PARTITIONS - 1)).await;
        rest.unwrap_or_else(|_| panic!("revoked within {millis} ms, a partition stayed locked"));
    }
    broker.close().await.expect("closed");
}

/// Waits until this number of partitions was assigned.
async fn owns(member: &mut Box<dyn Consumer>, partitions: u32) {
    let mut owned = 0;
    while owned < partitions {
        match member.next().await.expect("an event") {
            Event::Assigned(assigned) => owned += u32::try_from(assigned.len()).expect("few"),
            other => panic!("{other:?} was not expected"),
        }
    }
}

async fn release_all_that_is_asked_for(mut member: Box<dyn Consumer>) {
    loop {
        if let Event::Revoking { partitions, .. } = member.next().await.expect("an event") {
            // They are given up, whether the release was cut short or not.
            let _ = member.release(&partitions).await;
        }
    }
}

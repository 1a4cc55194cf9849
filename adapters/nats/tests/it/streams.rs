use std::time::{Duration, SystemTime};

use partitura_broker::{Broker, Ordering, Timestamp, Topology};

use crate::support::{ids, join, message, nats, publish, subscription, take, topic};

#[tokio::test]
async fn a_delayed_message_of_a_stream_reaches_every_subscription() {
    let (broker, topic) = (nats().await, topic("delayed"));
    let two = Ordering::ByKey { partitions: 2 };
    let stream = Topology::new()
        .stream(topic.clone(), two)
        .subscription(subscription("a"), [topic.clone()])
        .subscription(subscription("b"), [topic.clone()]);
    broker.declare(&stream).await.expect("it is new");
    let due = Timestamp::from(SystemTime::now()) + Duration::from_millis(300);
    publish(&broker, vec![message(&topic, 0).not_before(due), message(&topic, 1)]).await;
    for name in ["a", "b"] {
        let mut consumer = join(&broker, name, &topic).await;
        let got = take(&mut consumer, 2).await;
        assert_eq!(ids(&got), ["id-1", "id-0"]);
        assert_eq!(got[1].message.not_before, Some(due));
        assert!(Timestamp::from(SystemTime::now()) >= due);
        consumer.close().await.expect("the server is up");
    }
}

#[tokio::test]
async fn a_stream_keeps_a_message_until_each_subscription_has_settled_it_and_no_longer() {
    let (broker, topic) = (nats().await, topic("kept"));
    let stream = Topology::new()
        .stream(topic.clone(), Ordering::ByKey { partitions: 1 })
        .subscription(subscription("a"), [topic.clone()])
        .subscription(subscription("b"), [topic.clone()]);
    broker.declare(&stream).await.expect("it is new");
    publish(&broker, (0..3).map(|n| message(&topic, n)).collect()).await;
    let jetstream = async_nats::jetstream::new(broker.client().await.expect("a connection"));
    let mut kept = jetstream.get_stream(format!("partitura_{topic}")).await.expect("it is there");
    for (name, left) in [("a", 3), ("b", 0)] {
        let mut consumer = join(&broker, name, &topic).await;
        let tokens: Vec<_> = take(&mut consumer, 3).await.iter().map(|delivery| delivery.token).collect();
        consumer.settle(&tokens);
        consumer.close().await.expect("the server is up");
        assert_eq!(kept.info().await.expect("it is there").state.messages, left, "after {name}");
    }
}

#[tokio::test]
async fn messages_settled_out_of_order_stay_settled_though_another_subscription_has_not_settled_them() {
    let (broker, topic) = (nats().await, topic("holes"));
    let stream = Topology::new()
        .stream(topic.clone(), Ordering::ByKey { partitions: 1 })
        .subscription(subscription("a"), [topic.clone()])
        .subscription(subscription("b"), [topic.clone()]);
    broker.declare(&stream).await.expect("it is new");
    publish(&broker, (0..5).map(|n| message(&topic, n)).collect()).await;
    let mut first = join(&broker, "a", &topic).await;
    let held = take(&mut first, 5).await;
    first.settle(&[held[1].token, held[3].token]);
    first.flush().await.expect("the server is up");
    drop(first);
    publish(&broker, vec![message(&topic, 5)]).await;
    let mut second = join(&broker, "a", &topic).await;
    let again = take(&mut second, 4).await;
    assert_eq!(ids(&again), ["id-0", "id-2", "id-4", "id-5"]);
    assert!(again[..3].iter().all(|delivery| delivery.redelivered));
}

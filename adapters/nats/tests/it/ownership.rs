use partitura_broker::{Broker, Event, Ordering, Topology};

use crate::support::{ids, join, message, nats, publish, subscription, take, topic};

const ONE: Ordering = Ordering::ByKey { partitions: 1 };

#[tokio::test]
async fn an_owner_that_vanishes_in_its_own_replay_leaves_the_order_whole() {
    let (broker, topic) = (nats().await, topic("replay"));
    let queue = Topology::new().queue(topic.clone(), ONE).subscription(subscription("s"), [topic.clone()]);
    broker.declare(&queue).await.expect("it is new");
    publish(&broker, (0..200).map(|n| message(&topic, n)).collect()).await;
    // Owners that come and vanish, some in the middle of what is sent to them again.
    for life in 0..20 {
        let mut consumer = join(&broker, "s", &topic).await;
        let wait = std::time::Duration::from_millis(150 + 5 * life);
        let _vanishes = tokio::time::timeout(wait, take(&mut consumer, 200)).await;
    }
    let got = take(&mut join(&broker, "s", &topic).await, 200).await;
    let expected: Vec<String> = (0..200).map(|n| format!("id-{n}")).collect();
    assert_eq!(ids(&got), expected);
}

#[tokio::test]
async fn who_listens_to_everything_does_not_disturb_an_owner() {
    let (broker, topic) = (nats().await, topic("listener"));
    let queue = Topology::new().queue(topic.clone(), ONE).subscription(subscription("s"), [topic.clone()]);
    broker.declare(&queue).await.expect("it is new");
    let mut owner = join(&broker, "s", &topic).await;
    while !matches!(owner.next().await.expect("the server is up"), Event::Assigned(_)) {}
    let curious = broker.vendor().await.expect("a connection").subscribe("partitura.>").await.expect("a subscription");
    publish(&broker, (0..10).map(|n| message(&topic, n)).collect()).await;
    assert_eq!(take(&mut owner, 10).await.len(), 10);
    drop(owner);
    // Topics' subjects are not where consumers deliver to: the next owner is not kept out.
    let again = take(&mut join(&broker, "s", &topic).await, 10).await;
    assert!(again.iter().all(|delivery| delivery.redelivered));
    drop(curious);
}

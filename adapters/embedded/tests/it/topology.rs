use partitura_broker::{Broker, ConsumerOptions, ErrorKind, Ordering, Topology};

use crate::support::*;

#[tokio::test]
async fn declaring_again_is_harmless_also_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let topology =
        queue(by_key(4)).stream(topic("events"), Ordering::Shared).subscription(subscription("s"), [topic("events")]);
    let broker = file(&directory, &topology).await;
    broker.declare(&topology).await.unwrap();
    broker.declare(&topology.clone().verify_only()).await.unwrap();
    broker.close().await.unwrap();
    let broker = file(&directory, &topology.clone().verify_only()).await;
    broker.declare(&topology).await.unwrap();
    publish(&broker, vec![message("k", 1)]).await;
    assert_eq!(receive(&mut broker.consumer(options()).await.unwrap(), 1).await.len(), 1);
}

#[tokio::test]
async fn a_difference_is_refused_and_the_error_names_it() {
    let broker = memory(&queue(by_key(4))).await;
    let other = subscription("t");
    for (topology, kind, words) in [
        (Topology::new().queue(topic("q"), by_key(8)), ErrorKind::Incompatible, "4 partitions"),
        (Topology::new().stream(topic("q"), by_key(4)), ErrorKind::Incompatible, "queue"),
        (Topology::new().queue(topic("q"), Ordering::Shared), ErrorKind::Incompatible, "shared"),
        (Topology::new().subscription(other.clone(), [topic("q")]), ErrorKind::Incompatible, "has the subscription s"),
        (Topology::new().subscription(other, [topic("none")]), ErrorKind::NotFound, "declare it first"),
        (
            Topology::new().queue(topic("p"), by_key(4)).subscription(subscription("s"), [topic("q"), topic("p")]),
            ErrorKind::Incompatible,
            "covers",
        ),
        (Topology::new().queue(topic("x"), by_key(4)).verify_only(), ErrorKind::NotFound, "verified only"),
    ] {
        let error = broker.declare(&topology).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    // A declaration that is refused leaves nothing behind.
    let error = publish_one(&broker, partitura_broker::Message::new(topic("p"), "i", "")).await.unwrap_err();
    assert!(error.to_string().contains("declare it first"), "{error}");
}

#[tokio::test]
async fn a_queue_that_nobody_subscribed_to_takes_no_messages() {
    let broker = memory(&Topology::new().queue(topic("q"), by_key(1))).await;
    let error = publish_one(&broker, message("k", 1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("subscription"), "{error}");
}

#[tokio::test]
async fn a_consumer_of_something_unknown_is_refused() {
    let broker = memory(&queue(by_key(1))).await;
    for (options, kind) in [
        (ConsumerOptions::new(subscription("t"), [topic("q")]), ErrorKind::NotFound),
        (ConsumerOptions::new(subscription("s"), [topic("x")]), ErrorKind::NotFound),
        (ConsumerOptions::new(subscription("s"), []), ErrorKind::InvalidArgument),
        (ConsumerOptions::broadcast(topic("x")), ErrorKind::NotFound),
    ] {
        assert_eq!(broker.consumer(options).await.unwrap_err().kind(), kind);
    }
}

#[tokio::test]
async fn many_topics_do_not_mix() {
    let names: Vec<String> = (0..20).map(|i| format!("topic-{i}")).collect();
    let topology = names.iter().fold(Topology::new(), |topology, name| {
        topology.queue(topic(name), by_key(3)).subscription(subscription("s"), [topic(name)])
    });
    let directory = tempfile::tempdir().unwrap();
    let broker = file(&directory, &topology).await;
    let batch = (0..200).map(|i| {
        let mut message = message(&i.to_string(), &names[i % 20]);
        message.topic = topic(&names[i % 20]);
        message
    });
    publish(&broker, batch.collect()).await;
    for name in &names {
        let mut consumer = broker.consumer(ConsumerOptions::new(subscription("s"), [topic(name)])).await.unwrap();
        let deliveries = receive(&mut consumer, 10).await;
        assert!(deliveries.iter().all(|d| text(d) == *name && d.message.topic == topic(name)));
    }
}

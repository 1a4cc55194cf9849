//! Topics and subscriptions.

use partitura_broker::{Broker, ErrorKind, Ordering, Topology};
use partitura_pulsar::Batching;

use crate::support::{Place, connect, ids, options, publish, take};

const FOUR: Ordering = Ordering::ByKey { partitions: 4 };

#[tokio::test(flavor = "multi_thread")]
async fn a_difference_is_named() {
    let (broker, place) = (connect(options()).await, Place::new("differs", FOUR));
    broker.declare(&place.topology()).await.expect("declared");
    for (other, expected) in [
        (Topology::new().queue(place.topic.clone(), FOUR), "Queue"),
        (Topology::new().stream(place.topic.clone(), Ordering::Shared), "Shared"),
        (Topology::new().stream(place.topic.clone(), Ordering::ByKey { partitions: 8 }), "partitions: 8"),
    ] {
        let error = broker.declare(&other).await.expect_err("another topology");
        assert_eq!(error.kind(), ErrorKind::Incompatible);
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_declaration_sets_no_subscription_back() {
    let (broker, place) = (connect(options()).await, Place::new("race", FOUR));
    let topology = place.topology();
    // All of them declare at the same moment. The first to be done publishes while others still declare.
    let declaring = (0..4).map(|_| broker.declare(&topology));
    let (first, _, rest) = futures::future::select_all(declaring).await;
    first.expect("declared");
    publish(&broker, place.messages(0..10)).await;
    for declared in futures::future::join_all(rest).await {
        declared.expect("declared");
    }
    let mut consumer = place.join(&broker).await;
    assert_eq!(take(&mut *consumer, 10).await.len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_batches_everything_holds_as_well() {
    let mut single = options();
    single.batching = Batching::Off;
    let (broker, place) = (connect(single).await, Place::new("single", FOUR));
    broker.declare(&place.topology()).await.expect("declared");
    publish(&broker, place.messages(0..10)).await;
    let mut consumer = place.join(&broker).await;
    let held = take(&mut *consumer, 10).await;
    consumer.settle(&[held[3].token]);
    consumer.flush().await.expect("flushed");
    drop(consumer);
    let mut consumer = place.join(&broker).await;
    let again = take(&mut *consumer, 9).await;
    assert_eq!(ids(&again), ["m-0", "m-1", "m-2", "m-4", "m-5", "m-6", "m-7", "m-8", "m-9"]);
    assert!(again.iter().all(|delivery| delivery.redelivered));
}

use partitura_broker::Broker;

use crate::support::*;

#[tokio::test]
async fn in_memory_what_is_published_is_delivered_in_order_and_settled_once() {
    let broker = memory(&queue(by_key(4))).await;
    round_trip(&broker).await;
}

#[tokio::test]
async fn in_a_file_what_is_published_is_delivered_in_order_and_settled_once() {
    let directory = tempfile::tempdir().unwrap();
    let broker = file(&directory, &queue(by_key(4))).await;
    round_trip(&broker).await;
    broker.close().await.unwrap();
    let broker = file(&directory, &queue(by_key(4))).await;
    let mut consumer = broker.consumer(options()).await.unwrap();
    nothing(&mut consumer).await;
}

async fn round_trip(broker: &dyn Broker) {
    publish(broker, (0..100).map(|i| message("k", i)).collect()).await;
    let mut consumer = broker.consumer(options()).await.unwrap();
    let deliveries = receive(&mut consumer, 100).await;
    assert_eq!(texts(&deliveries), numbers(0..100));
    consumer.settle(&tokens(&deliveries));
    consumer.flush().await.unwrap();
    drop(consumer);
    let mut consumer = broker.consumer(options()).await.unwrap();
    nothing(&mut consumer).await;
}

use partitura_broker::{Broker, Credit, ErrorKind, Event, ProducerOptions};
use partitura_embedded::{Embedded, Options};

use crate::support::*;

#[tokio::test]
async fn no_more_than_the_credit_is_outstanding() {
    let broker = memory(&queue(by_key(4))).await;
    publish(&broker, (0..100).map(|i| message(&i.to_string(), i)).collect()).await;
    let mut consumer = broker.consumer(options().credit(credit(7))).await.unwrap();
    let mut held = receive(&mut consumer, 7).await;
    nothing(&mut consumer).await;
    let mut seen = 7;
    while seen < 100 {
        let settled = held.remove(0);
        consumer.settle(&[settled.token]);
        let deliveries = receive(&mut consumer, 1).await;
        seen += deliveries.len();
        held.extend(deliveries);
        assert_eq!(held.len(), 7);
    }
}

#[tokio::test]
async fn credit_counts_bytes_and_one_that_is_too_large_comes_alone() {
    let broker = memory(&queue(by_key(1))).await;
    let large = |i: u32| partitura_broker::Message::new(topic("q"), i.to_string(), vec![0; 1_000]).key("k");
    publish(&broker, (0..5).map(large).collect()).await;
    let few = Credit { bytes: 2_100.try_into().unwrap(), ..Credit::default() };
    let mut consumer = broker.consumer(options().credit(few)).await.unwrap();
    let two = receive(&mut consumer, 2).await;
    nothing(&mut consumer).await;
    consumer.settle(&tokens(&two));
    receive(&mut consumer, 2).await;
    drop(consumer);

    let tiny = Credit { bytes: 10.try_into().unwrap(), ..Credit::default() };
    let mut consumer = broker.consumer(options().credit(tiny)).await.unwrap();
    for _ in 0..3 {
        let one = receive(&mut consumer, 1).await;
        nothing(&mut consumer).await;
        consumer.settle(&tokens(&one));
    }
}

#[tokio::test]
async fn a_backlog_beyond_the_memory_set_aside_is_read_back_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Embedded::open(directory.path(), Options::default().resident_bytes(1_000)).unwrap();
    broker.declare(&queue(by_key(3))).await.unwrap();
    publish(&broker, (0..5_000).map(|i| message("k", i)).collect()).await;
    let mut consumer = broker.consumer(options().credit(credit(100))).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 5_000 {
        let deliveries = receive_at_least(&mut consumer, 1).await;
        seen.extend(texts(&deliveries));
        consumer.settle(&tokens(&deliveries));
    }
    assert_eq!(seen, numbers(0..5_000));
}

#[tokio::test]
async fn a_busy_partition_does_not_starve_the_others() {
    let broker = memory(&queue(by_key(8))).await;
    publish(&broker, (0..2_000).map(|i| message("busy", i)).collect()).await;
    publish(&broker, (0..50).map(|i| message(&i.to_string(), format!("x{i}"))).collect()).await;
    let mut consumer = broker.consumer(options().credit(credit(500))).await.unwrap();
    let deliveries = receive_at_least(&mut consumer, 400).await;
    assert!(texts(&deliveries).iter().filter(|text| text.starts_with('x')).count() > 30);
}

#[tokio::test]
async fn a_batch_larger_than_the_window_passes() {
    let directory = tempfile::tempdir().unwrap();
    let broker = file(&directory, &queue(by_key(2))).await;
    let mut narrow = ProducerOptions::default();
    narrow.window = 3.try_into().unwrap();
    let producer = broker.producer(narrow).await.unwrap();
    let all = producer.publish((0..100).map(|i| message("k", i)).collect()).await;
    assert!(all.len() == 100 && all.iter().all(Result::is_ok));
}

#[tokio::test]
async fn each_message_of_a_batch_has_its_own_result() {
    let broker = memory(&queue(by_key(2))).await;
    let mut oversized = message("k", 1);
    oversized.payload = vec![0; (1 << 20) + 1].into();
    let mut nowhere = message("k", 2);
    nowhere.topic = topic("nowhere");
    let batch = vec![message("k", 0), oversized, nowhere, message("k", 3)];
    let kinds: Vec<_> =
        producer(&broker).await.publish(batch).await.into_iter().map(|r| r.map_err(|e| e.kind())).collect();
    assert_eq!(kinds[0], kinds[3]);
    assert!(kinds[0].is_ok());
    assert_eq!(kinds[1], Err(ErrorKind::PayloadTooLarge));
    assert_eq!(kinds[2], Err(ErrorKind::NotFound));
    let mut consumer = broker.consumer(options()).await.unwrap();
    assert_eq!(texts(&receive(&mut consumer, 2).await), ["0", "3"]);
}

#[tokio::test]
async fn messages_without_a_key_use_all_partitions() {
    let broker = memory(&queue(by_key(4))).await;
    let batch = (0..40).map(|i| partitura_broker::Message::new(topic("q"), i.to_string(), "")).collect();
    publish(&broker, batch).await;
    let mut consumer = broker.consumer(options()).await.unwrap();
    let Event::Assigned(_) = news(&mut consumer).await else { panic!() };
    let mut counts = [0; 4];
    receive(&mut consumer, 40).await.iter().for_each(|delivery| counts[delivery.partition.0 as usize] += 1);
    assert_eq!(counts, [10; 4]);
}

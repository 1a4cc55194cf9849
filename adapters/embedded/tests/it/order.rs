use std::collections::HashMap;
use std::sync::Arc;

use partitura_broker::{Broker, ConsumerOptions, Message, Ordering, Topology};

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
    assert!(deliveries.iter().all(|delivery| !delivery.redelivered));
    consumer.settle(&tokens(&deliveries));
    consumer.flush().await.unwrap();
    drop(consumer);
    let mut consumer = broker.consumer(options()).await.unwrap();
    nothing(&mut consumer).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_order_of_a_key_is_that_of_the_receipts_with_several_producers() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Arc::new(file(&directory, &queue(by_key(8))).await);
    let writers = (0..8).map(|writer| {
        let broker = broker.clone();
        tokio::spawn(async move {
            let producer = producer(&*broker).await;
            for i in 0..200 {
                // Each writer has keys of its own, and one batch holds several of a key.
                let batch = (0..3).map(|j| message(&format!("{writer}/{}", i % 3), format!("{writer} {}", i * 3 + j)));
                all_confirmed(producer.publish(batch.collect()).await);
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let mut consumer = broker.consumer(options()).await.unwrap();
    let mut last: HashMap<Vec<u8>, u32> = HashMap::new();
    let mut count = 0;
    while count < 8 * 600 {
        let deliveries = receive_at_least(&mut consumer, 1).await;
        count += deliveries.len();
        for delivery in &deliveries {
            let number = text(delivery).split_once(' ').unwrap().1.parse::<u32>().unwrap() + 1;
            let last = last.entry(delivery.message.key.clone().unwrap().to_vec()).or_default();
            assert!(*last < number, "{number} after {last}");
            *last = number;
        }
        consumer.settle(&tokens(&deliveries));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(last.len(), 24);
}

#[tokio::test]
async fn a_thousand_messages_arrive_byte_for_byte() {
    let directory = tempfile::tempdir().unwrap();
    // Little is kept in memory, so that most messages are read back from the file.
    let options = partitura_embedded::Options::default().resident_bytes(10_000);
    let broker = partitura_embedded::Embedded::open(directory.path(), options).unwrap();
    broker.declare(&queue(by_key(4))).await.unwrap();
    let sent: Vec<Message> = (0..1_000_usize)
        .map(|i| {
            let payload: Vec<u8> = (0..i % 701).map(|b| (b * i) as u8).collect();
            let mut message = Message::new(topic("q"), format!("id-{i}"), payload);
            match i % 4 {
                0 => {}
                1 => message = message.key(&b""[..]),
                2 => message = message.key(vec![0xff, 0xfe, i as u8]),
                _ => message = message.key(vec![b'k'; 1_024]),
            }
            for h in 0..i % 5 {
                message.headers.append("größe-\u{1f3bc}", vec![h as u8; i % 17]);
                message.headers.append("", "");
            }
            message
        })
        .collect();
    publish(&broker, sent.clone()).await;
    let mut consumer = broker.consumer(crate::support::options()).await.unwrap();
    let mut got: HashMap<String, Message> = HashMap::new();
    while got.len() < 1_000 {
        let deliveries = receive_at_least(&mut consumer, 1).await;
        consumer.settle(&tokens(&deliveries));
        got.extend(deliveries.into_iter().map(|delivery| (delivery.message.id.to_string(), delivery.message)));
    }
    for message in sent {
        assert_eq!(got.get(message.id.as_str()), Some(&message));
    }
}

#[tokio::test]
async fn messages_settled_out_of_order_stay_settled_and_the_others_come_back_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let broker = file(&directory, &queue(by_key(1))).await;
    publish(&broker, (1..=10).map(|i| message("k", i)).collect()).await;
    let mut consumer = broker.consumer(options()).await.unwrap();
    let deliveries = receive(&mut consumer, 10).await;
    consumer.settle(&[deliveries[6].token, deliveries[2].token]);
    consumer.flush().await.unwrap();
    // The broker is dropped, not closed, as in a crash.
    drop((consumer, broker));
    let broker = file(&directory, &queue(by_key(1))).await;
    let mut consumer = broker.consumer(options()).await.unwrap();
    let deliveries = receive(&mut consumer, 8).await;
    assert_eq!(texts(&deliveries), numbers([1, 2, 4, 5, 6, 8, 9, 10]));
    assert!(deliveries.iter().all(|delivery| delivery.redelivered));
}

#[tokio::test]
async fn a_successor_gets_what_was_unsettled_and_then_what_is_new() {
    for ordering in [by_key(3), Ordering::Shared] {
        let broker = memory(&queue(ordering)).await;
        publish(&broker, (1..=10).map(|i| message("k", i)).collect()).await;
        let mut consumer = broker.consumer(options()).await.unwrap();
        let deliveries = receive(&mut consumer, 10).await;
        consumer.settle(&[deliveries[2].token, deliveries[6].token]);
        let mut successor = broker.consumer(options()).await.unwrap();
        drop(consumer);
        publish(&broker, (11..=12).map(|i| message("k", i)).collect()).await;
        let deliveries = receive(&mut successor, 10).await;
        assert_eq!(texts(&deliveries), numbers([1, 2, 4, 5, 6, 8, 9, 10, 11, 12]));
        let redelivered: Vec<bool> = deliveries.iter().map(|delivery| delivery.redelivered).collect();
        assert_eq!(redelivered, [true, true, true, true, true, true, true, true, false, false]);
    }
}

#[tokio::test]
async fn topics_of_one_subscription_come_in_the_order_of_publishing() {
    let topology = Topology::new()
        .queue(topic("q"), by_key(2))
        .queue(topic("parked"), by_key(2))
        .subscription(subscription("s"), [topic("q"), topic("parked")]);
    let broker = memory(&topology).await;
    for i in 0..10 {
        let mut message = message("k", i);
        message.topic = topic(if i % 3 == 0 { "parked" } else { "q" });
        publish(&broker, vec![message]).await;
    }
    let options = ConsumerOptions::new(subscription("s"), [topic("parked"), topic("q")]);
    let mut consumer = broker.consumer(options).await.unwrap();
    let deliveries = receive(&mut consumer, 10).await;
    assert_eq!(texts(&deliveries), numbers(0..10));
    assert_eq!(deliveries[0].message.topic, topic("parked"));
    assert_eq!(deliveries[1].message.topic, topic("q"));
}

#[tokio::test]
async fn tokens_that_are_stale_settle_nothing() {
    let broker = memory(&queue(by_key(1))).await;
    publish(&broker, (0..2).map(|i| message("k", i)).collect()).await;
    let mut consumer = broker.consumer(options()).await.unwrap();
    let first = receive(&mut consumer, 2).await;
    drop(consumer);
    let mut consumer = broker.consumer(options()).await.unwrap();
    let again = receive(&mut consumer, 2).await;
    consumer.settle(&tokens(&first));
    consumer.settle(&[again[0].token, again[0].token]);
    drop(consumer);
    let mut consumer = broker.consumer(options()).await.unwrap();
    assert_eq!(texts(&receive(&mut consumer, 1).await), ["1"]);
}

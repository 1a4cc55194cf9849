use std::time::Duration;

use partitura_broker::{Broker, Event};
use partitura_embedded::{Embedded, Options};

use crate::support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_next_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    // Contents have to be read back, so that the future is dropped there too.
    let broker = Embedded::open(directory.path(), Options::default().resident_bytes(500)).unwrap();
    broker.declare(&queue(by_key(1))).await.unwrap();
    let publishing = tokio::spawn({
        let broker = broker.clone();
        async move {
            for i in 0..200 {
                publish(&broker, (0..5).map(|j| message("k", i * 5 + j)).collect()).await;
            }
        }
    });
    let mut consumer = broker.consumer(options().credit(credit(20))).await.unwrap();
    let mut seen = Vec::new();
    let mut patience = 0;
    while seen.len() < 1_000 {
        patience = (patience + 37) % 300;
        let event = tokio::time::timeout(Duration::from_micros(patience), consumer.next()).await;
        if let Ok(Ok(Event::Deliveries(deliveries))) = event {
            seen.extend(texts(&deliveries));
            consumer.settle(&tokens(&deliveries));
        }
    }
    assert_eq!(seen, numbers(0..1_000));
    publishing.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_publish_neither_reorders_nor_loses_what_was_confirmed() {
    let directory = tempfile::tempdir().unwrap();
    let broker = file(&directory, &queue(by_key(1))).await;
    let producer = producer(&broker).await;
    let mut confirmed = Vec::new();
    for i in 0..300_u32 {
        let publishing = producer.publish(vec![message("k", i)]);
        if tokio::time::timeout(Duration::from_micros(u64::from(i * 7 % 400)), publishing).await.is_ok() {
            confirmed.push(i.to_string());
        }
    }
    publish(&broker, vec![message("k", 300)]).await;
    let mut consumer = broker.consumer(options()).await.unwrap();
    let mut seen = Vec::new();
    while seen.last().is_none_or(|last| last != "300") {
        seen.extend(texts(&receive_at_least(&mut consumer, 1).await));
    }
    assert!(confirmed.iter().all(|text| seen.contains(text)));
    assert!(seen.is_sorted_by_key(|text| text.parse::<u32>().unwrap()));
}

#[tokio::test]
async fn a_competitor_that_stops_waiting_passes_its_turn_on() {
    let broker = memory(&queue(partitura_broker::Ordering::Shared)).await;
    let mut first = broker.consumer(options()).await.unwrap();
    let mut second = broker.consumer(options()).await.unwrap();
    for i in 0..50 {
        let mut giving_up = Box::pin(first.next());
        let mut waiting = Box::pin(second.next());
        assert!(futures_poll(&mut giving_up).is_none());
        assert!(futures_poll(&mut waiting).is_none());
        publish(&broker, vec![message("k", i)]).await;
        drop(giving_up);
        let event = tokio::time::timeout(EVENT_LIMIT, waiting).await.expect("woken in the other's place").unwrap();
        let Event::Deliveries(deliveries) = event else { panic!() };
        second.settle(&tokens(&deliveries));
    }
}

#[tokio::test]
async fn a_competitor_whose_hands_are_full_passes_its_turn_on() {
    let broker = memory(&queue(partitura_broker::Ordering::Shared)).await;
    let mut full = broker.consumer(options().credit(credit(1))).await.unwrap();
    publish(&broker, vec![message("k", 0)]).await;
    let held = receive(&mut full, 1).await;
    let mut second = broker.consumer(options()).await.unwrap();
    {
        let mut wanting = Box::pin(full.next());
        for i in 1..50 {
            let mut waiting = Box::pin(second.next());
            assert!(futures_poll(&mut wanting).is_none());
            assert!(futures_poll(&mut waiting).is_none());
            publish(&broker, vec![message("k", i)]).await;
            assert!(futures_poll(&mut wanting).is_none(), "more than its credit");
            let event = tokio::time::timeout(EVENT_LIMIT, waiting).await.expect("woken in the other's place").unwrap();
            let Event::Deliveries(deliveries) = event else { panic!() };
            second.settle(&tokens(&deliveries));
        }
    }
    full.settle(&tokens(&held));
    publish(&broker, vec![message("k", 50)]).await;
    receive(&mut full, 1).await;
}

/// Polls once.
fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::Pin::new(future).poll(&mut context) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}

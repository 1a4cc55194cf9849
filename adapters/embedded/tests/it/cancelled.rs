//! Delayed messages that are taken back.

use std::time::Duration;

use partitura_broker::{Broker, Clock, Message, SystemClock, Timestamp, Topology};
use partitura_embedded::{Embedded, Options};

use crate::support::*;

const HOUR: Duration = Duration::from_secs(3_600);

async fn cancel(broker: &dyn Broker, messages: &[Message]) -> Vec<bool> {
    let delayed = messages.iter().filter_map(Message::delayed).collect();
    producer(broker).await.cancel(delayed).await.into_iter().map(Result::unwrap).collect()
}

fn at(millis: u64) -> Timestamp {
    SystemClock.now() + Duration::from_millis(millis)
}

#[tokio::test]
async fn a_cancelled_message_stays_cancelled_when_the_file_is_opened_again() {
    let directory = tempfile::tempdir().unwrap();
    let broker = file(&directory, &queue(by_key(2))).await;
    // All are due at the same time, so that only their ids distinguish them.
    let (soon, far) = (at(700), SystemClock.now() + HOUR);
    let near: Vec<Message> = (0..4).map(|i| message("k", i).not_before(soon)).collect();
    let late: Vec<Message> = (10..20).map(|i| message("k", i).not_before(far)).collect();
    publish(&broker, [&near[..], &late[..]].concat()).await;
    assert_eq!(cancel(&broker, &[near[1].clone(), late[3].clone(), near[1].clone()]).await, [true, true, false]);
    drop(broker);
    let broker = loop {
        // The writer of the last one may still be at work.
        match Embedded::open(directory.path(), Options::default()) {
            Ok(broker) => break broker,
            Err(error) => assert_eq!(error.kind(), partitura_broker::ErrorKind::Busy, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    // Only the file knows their ids by now.
    assert_eq!(cancel(&broker, &late).await, [true, true, true, false, true, true, true, true, true, true]);
    assert_eq!(cancel(&broker, &late).await, [false; 10]);
    let mut consumer = broker.consumer(options()).await.unwrap();
    assert_eq!(texts(&receive(&mut consumer, 3).await), ["0", "2", "3"]);
    assert_eq!(cancel(&broker, &near).await, [false; 4]);
    nothing(&mut consumer).await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_forgets_it_for_each_subscription_and_each_listener() {
    let clock = TokioClock::start();
    let broker = Embedded::memory(Options::default().clock(clock.clone())).unwrap();
    let stream =
        |name: &str| Topology::new().stream(topic("q"), by_key(2)).subscription(subscription(name), [topic("q")]);
    broker.declare(&stream("s")).await.unwrap();
    broker.declare(&stream("t")).await.unwrap();
    let listening = partitura_broker::ConsumerOptions::broadcast(topic("q"));
    let mut consumers = vec![
        broker.consumer(options()).await.unwrap(),
        broker.consumer(partitura_broker::ConsumerOptions::new(subscription("t"), [topic("q")])).await.unwrap(),
        broker.consumer(listening).await.unwrap(),
    ];
    let due = clock.now() + HOUR;
    let batch: Vec<Message> = (0..4).map(|i| message("k", i).not_before(due)).collect();
    publish(&broker, batch.clone()).await;
    assert_eq!(cancel(&broker, &batch[1..3]).await, [true, true]);
    for consumer in &mut consumers {
        let came = loop {
            if let partitura_broker::Event::Deliveries(came) = consumer.next().await.unwrap() {
                break came;
            }
        };
        assert_eq!(texts(&came), ["0", "3"]);
    }
    // It is due: a consumer that has not looked yet still gets it.
    assert_eq!(cancel(&broker, &batch[..1]).await, [false]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_only_listeners_wait_for_is_cancelled_too() {
    let clock = TokioClock::start();
    let broker = Embedded::memory(Options::default().clock(clock.clone())).unwrap();
    broker.declare(&Topology::new().stream(topic("q"), by_key(2))).await.unwrap();
    let mut listener = broker.consumer(partitura_broker::ConsumerOptions::broadcast(topic("q"))).await.unwrap();
    let batch: Vec<Message> = (0..2).map(|i| message("k", i).not_before(clock.now() + HOUR)).collect();
    publish(&broker, batch.clone()).await;
    assert_eq!(cancel(&broker, &batch[..1]).await, [true]);
    assert_eq!(cancel(&broker, &batch[..1]).await, [false]);
    let came = loop {
        if let partitura_broker::Event::Deliveries(came) = listener.next().await.unwrap() {
            break came;
        }
    };
    assert_eq!(texts(&came), ["1"]);
}

#[tokio::test]
async fn a_cancellation_on_an_unknown_topic_is_an_error_and_the_others_are_answered() {
    let broker = memory(&queue(by_key(1))).await;
    let waits = message("k", "waits").not_before(SystemClock.now() + HOUR);
    publish(&broker, vec![waits.clone()]).await;
    let nowhere = Message { topic: topic("nowhere"), ..waits.clone() };
    let delayed = [&nowhere, &waits].into_iter().filter_map(Message::delayed).collect();
    let answers = producer(&broker).await.cancel(delayed).await;
    let kinds: Vec<_> = answers.into_iter().map(|answer| answer.map_err(|error| error.kind())).collect();
    assert_eq!(kinds, [Err(partitura_broker::ErrorKind::NotFound), Ok(true)]);
}

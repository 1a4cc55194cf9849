use std::time::Duration;

use partitura_broker::{Broker, Clock, ErrorKind, Event, SystemClock, Topology};
use partitura_embedded::{Embedded, Options};

use crate::support::*;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[tokio::test(start_paused = true)]
async fn thirty_days_pass_in_a_moment_of_virtual_time() {
    let clock = TokioClock::start();
    let broker = Embedded::memory(Options::default().clock(clock.clone())).unwrap();
    broker.declare(&queue(by_key(2))).await.unwrap();
    let due = clock.now() + 30 * DAY;
    publish(&broker, vec![message("k", "late").not_before(due), message("k", "now")]).await;
    let mut consumer = broker.consumer(options()).await.unwrap();
    let began = std::time::Instant::now();
    assert_eq!(texts(&receive(&mut consumer, 1).await), ["now"]);
    let delivery = loop {
        if let Event::Deliveries(mut deliveries) = consumer.next().await.unwrap() {
            break deliveries.remove(0);
        }
    };
    assert_eq!((text(&delivery).as_str(), clock.now()), ("late", due));
    assert_eq!(delivery.message.not_before, Some(due));
    assert!(!delivery.redelivered);
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_early_and_delayed_messages_come_in_the_order_in_which_they_fall_due() {
    let directory = tempfile::tempdir().unwrap();
    let broker = file(&directory, &queue(by_key(1))).await;
    let now = SystemClock.now();
    // Published in an order that has nothing to do with that of the due times.
    let batch = (0..500_u64).map(|i| {
        let millis = 300 + i * 7_919 % 400;
        message("k", millis).not_before(now + Duration::from_millis(millis))
    });
    publish(&broker, batch.collect()).await;
    let mut consumer = broker.consumer(options()).await.unwrap();
    let mut last = 0;
    let mut count = 0;
    while count < 500 {
        for delivery in receive_at_least(&mut consumer, 1).await {
            let due = delivery.message.not_before.unwrap();
            assert!(SystemClock.now() >= due);
            assert!(last <= due.as_millis());
            last = due.as_millis();
            count += 1;
        }
    }
}

#[tokio::test]
async fn an_hour_does_not_hold_up_a_moment_and_the_past_is_now() {
    let broker = memory(&queue(by_key(1))).await;
    let now = SystemClock.now();
    let hour = message("k", "hour").not_before(now + Duration::from_secs(3_600));
    let moment = message("k", "moment").not_before(now + Duration::from_millis(30));
    let past = message("k", "past").not_before(partitura_broker::Timestamp::from_millis(5));
    publish(&broker, vec![hour, moment, past]).await;
    let mut consumer = broker.consumer(options()).await.unwrap();
    assert_eq!(texts(&receive(&mut consumer, 2).await), ["past", "moment"]);
    nothing(&mut consumer).await;
}

#[tokio::test]
async fn a_delay_that_is_published_while_a_consumer_waits_for_a_later_one_is_in_time() {
    let broker = memory(&queue(by_key(1))).await;
    let now = SystemClock.now();
    publish(&broker, vec![message("k", "hour").not_before(now + Duration::from_secs(3_600))]).await;
    let mut consumer = broker.consumer(options()).await.unwrap();
    let publishing = async {
        tokio::task::yield_now().await;
        publish(&broker, vec![message("k", "soon").not_before(now + Duration::from_millis(40))]).await;
    };
    let (deliveries, ()) = tokio::join!(receive(&mut consumer, 1), publishing);
    assert_eq!(texts(&deliveries), ["soon"]);
}

#[tokio::test]
async fn delays_survive_reopening_also_those_that_fall_due_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let broker = file(&directory, &queue(by_key(1))).await;
    let now = SystemClock.now();
    let after = |millis| message("k", millis).not_before(now + Duration::from_millis(millis));
    publish(&broker, vec![after(400), after(20), message("k", "now"), after(10)]).await;
    broker.close().await.unwrap();
    while SystemClock.now() < now + Duration::from_millis(50) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let broker = file(&directory, &queue(by_key(1))).await;
    let mut consumer = broker.consumer(options()).await.unwrap();
    assert_eq!(texts(&receive(&mut consumer, 3).await), ["now", "10", "20"]);
    assert_eq!(texts(&receive(&mut consumer, 1).await), ["400"]);
    assert!(SystemClock.now() >= now + Duration::from_millis(400));
}

#[tokio::test]
async fn ten_years_are_accepted_and_eleven_are_not() {
    let broker = memory(&queue(by_key(1))).await;
    let now = SystemClock.now();
    publish_one(&broker, message("k", 10).not_before(now + 3_652 * DAY)).await.unwrap();
    let error = publish_one(&broker, message("k", 11).not_before(now + 11 * 366 * DAY)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn two_timers_of_one_tick_both_arrive_in_the_order_of_publishing() {
    let broker = memory(&queue(by_key(1))).await;
    let due = SystemClock.now() + Duration::from_millis(20);
    publish(&broker, vec![message("k", "a").not_before(due), message("k", "b").not_before(due)]).await;
    let mut consumer = broker.consumer(options()).await.unwrap();
    assert_eq!(texts(&receive(&mut consumer, 2).await), ["a", "b"]);
}

#[tokio::test]
async fn a_message_that_fell_due_keeps_its_place_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let broker = file(&directory, &queue(by_key(1))).await;
    let now = SystemClock.now();
    publish(&broker, vec![message("k", 1), message("k", 3).not_before(now + Duration::from_millis(20))]).await;
    publish(&broker, vec![message("k", 2)]).await;
    let mut consumer = broker.consumer(options()).await.unwrap();
    let mut seen = texts(&receive(&mut consumer, 3).await);
    publish(&broker, vec![message("k", 4)]).await;
    seen.extend(texts(&receive(&mut consumer, 1).await));
    drop((consumer, broker));
    let broker = file(&directory, &queue(by_key(1))).await;
    let mut consumer = broker.consumer(options()).await.unwrap();
    assert_eq!(texts(&receive(&mut consumer, 4).await), seen);
}

#[tokio::test(start_paused = true)]
async fn a_stream_delays_for_those_who_only_listen_too() {
    let clock = TokioClock::start();
    let broker = Embedded::memory(Options::default().clock(clock.clone())).unwrap();
    broker.declare(&Topology::new().stream(topic("q"), by_key(2))).await.unwrap();
    let mut listener = broker.consumer(partitura_broker::ConsumerOptions::broadcast(topic("q"))).await.unwrap();
    let due = clock.now() + DAY / 1_000_000;
    publish(&broker, vec![message("k", "late").not_before(due), message("k", "now")]).await;
    assert_eq!(texts(&receive(&mut listener, 1).await), ["now"]);
    assert_eq!(texts(&receive(&mut listener, 1).await), ["late"]);
    assert!(clock.now() >= due);
}

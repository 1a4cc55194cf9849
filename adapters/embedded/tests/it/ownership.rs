use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use partitura_broker::{Broker, Consumer, ErrorKind, Event, Expect, Partition, Put, Unit};

use crate::support::*;

async fn assigned(consumer: &mut Box<dyn Consumer>) -> Vec<(u32, u32)> {
    match news(consumer).await {
        Event::Assigned(assignments) => assignments.iter().map(|a| (a.partition.0, a.epoch)).collect(),
        other => panic!("{other:?}"),
    }
}

async fn revoked(consumer: &mut Box<dyn Consumer>) -> Vec<Partition> {
    match news(consumer).await {
        Event::Revoking { partitions, .. } => partitions,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_graceful_hand_over_does_not_let_the_successor_start_early() {
    let broker = memory(&queue(by_key(1))).await;
    let mut first = broker.consumer(options().revoke_within(Duration::from_secs(10))).await.unwrap();
    assert_eq!(assigned(&mut first).await, [(0, 1)]);
    publish(&broker, (0..4).map(|i| message("k", i)).collect()).await;
    let held = receive(&mut first, 4).await;
    // The only partition does not move while its owner lives; a second member has none.
    let mut second = broker.consumer(options()).await.unwrap();
    nothing(&mut second).await;
    first.settle(&[held[1].token]);
    first.close().await.unwrap();
    assert_eq!(assigned(&mut second).await, [(0, 2)]);
    assert_eq!(texts(&receive(&mut second, 3).await), numbers([0, 2, 3]));
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_is_asked_back_goes_on_when_it_is_released() {
    let broker = memory(&queue(by_key(2))).await;
    publish(&broker, (0..100).map(|i| message(&i.to_string(), i)).collect()).await;
    let mut first = broker.consumer(options()).await.unwrap();
    assert_eq!(assigned(&mut first).await, [(0, 1), (1, 1)]);
    let held = receive(&mut first, 100).await;
    let mut second = broker.consumer(options()).await.unwrap();
    let partitions = revoked(&mut first).await;
    let [partition] = partitions[..] else { panic!("{partitions:?}") };
    publish(&broker, (100..120).map(|i| message(&i.to_string(), i)).collect()).await;
    let of = |partition| held.iter().filter(move |delivery| delivery.partition == partition).collect::<Vec<_>>();
    assert!(receive_at_least(&mut first, 1).await.iter().all(|delivery| delivery.partition != partition));
    nothing(&mut second).await;

    first.settle(&of(partition)[1..].iter().map(|delivery| delivery.token).collect::<Vec<_>>());
    first.release(&[Partition(9), partition]).await.unwrap();
    assert_eq!(assigned(&mut second).await, [(partition.0, 2)]);
    let deliveries = receive_at_least(&mut second, 1).await;
    assert_eq!(text(&deliveries[0]), text(of(partition)[0]), "what was not settled comes first");
    assert!(deliveries[0].redelivered && deliveries[1..].iter().all(|delivery| !delivery.redelivered));

    // The old term is over.
    first.settle(&[of(partition)[0].token]);
    drop(second);
    assert_eq!(assigned(&mut first).await, [(partition.0, 3)]);
    assert_eq!(text(&receive_at_least(&mut first, 1).await[0]), text(of(partition)[0]));
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_is_not_released_in_time_is_lost() {
    let broker = memory(&queue(by_key(2))).await;
    publish(&broker, (0..100).map(|i| message(&i.to_string(), i)).collect()).await;
    let mut first = broker.consumer(options().revoke_within(Duration::from_secs(10))).await.unwrap();
    assigned(&mut first).await;
    let held = receive(&mut first, 100).await;
    let mut second = broker.consumer(options()).await.unwrap();
    let began = tokio::time::Instant::now();
    let [(partition, 2)] = assigned(&mut second).await[..] else { panic!() };
    assert!(began.elapsed() >= Duration::from_secs(10), "{:?}", began.elapsed());
    let expected: Vec<_> = held.iter().filter(|d| d.partition.0 == partition).map(text).collect();
    assert_eq!(texts(&receive(&mut second, expected.len()).await), expected);
    // The first consumer was asked to release, but did not read it. By now the event is the loss.
    let Event::Lost(lost) = news(&mut first).await else { panic!() };
    assert_eq!(lost, [Partition(partition)]);
}

#[tokio::test]
async fn those_who_come_before_anybody_looks_need_no_hand_over() {
    let broker = memory(&queue(by_key(8))).await;
    let mut consumers = Vec::new();
    for _ in 0..4 {
        consumers.push(broker.consumer(options()).await.unwrap());
    }
    let mut all = HashSet::new();
    for consumer in &mut consumers {
        let own = assigned(consumer).await;
        assert_eq!(own.len(), 2);
        all.extend(own.iter().map(|(partition, _)| *partition));
    }
    assert_eq!(all.len(), 8);
}

#[tokio::test]
async fn a_commit_of_a_lost_partition_is_fenced_and_changes_nothing() {
    let broker = memory(&queue(by_key(1))).await;
    publish(&broker, vec![message("k", 1)]).await;
    let mut first = broker.consumer(options()).await.unwrap();
    let held = receive(&mut first, 1).await;
    drop(first);
    let put = Put { space: "t", key: bytes("a"), expect: Expect::Any, value: Some(bytes("1")) };
    let unit = Unit { settle: tokens(&held), publish: vec![message("k", 2)], put: vec![put] };
    let transactions = broker.transactions().unwrap();
    let error = transactions.commit(vec![unit]).await.remove(0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced);
    assert_eq!(transactions.get("t", bytes("a")).await.unwrap(), None);
    let mut second = broker.consumer(options()).await.unwrap();
    assert_eq!(texts(&receive(&mut second, 1).await), ["1"]);
    nothing(&mut second).await;
}

/// Consumers join and leave while messages flow: first deliveries of a key are in order, nothing is lost, and no
/// consumer handles a partition that another owns.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joining_and_leaving_under_load_loses_and_reorders_nothing() {
    const KEYS: u32 = 32;
    const EACH: u32 = 150;
    let directory = tempfile::tempdir().unwrap();
    let broker = Arc::new(file(&directory, &queue(by_key(8))).await);
    let seen: Arc<Mutex<HashMap<u32, Vec<u32>>>> = Arc::default();

    let publishing = tokio::spawn({
        let broker = broker.clone();
        async move {
            let producer = producer(&*broker).await;
            for i in 0..EACH {
                let batch = (0..KEYS).map(|key| message(&key.to_string(), format!("{key} {i}"))).collect();
                all_confirmed(producer.publish(batch).await);
                tokio::task::yield_now().await;
            }
        }
    });
    let worker = |lives: u32| {
        let (broker, seen) = (broker.clone(), seen.clone());
        tokio::spawn(async move {
            for life in 0..lives {
                let mut consumer = broker.consumer(options().credit(credit(50))).await.unwrap();
                for step in 0..30 {
                    let event = tokio::time::timeout(Duration::from_millis(20), consumer.next()).await;
                    match event.map(Result::unwrap) {
                        Ok(Event::Deliveries(deliveries)) => {
                            {
                                let mut seen = seen.lock().unwrap();
                                for delivery in &deliveries {
                                    let text = text(delivery);
                                    let (key, number) = text.split_once(' ').unwrap();
                                    seen.entry(key.parse().unwrap()).or_default().push(number.parse().unwrap());
                                }
                            }
                            tokio::task::yield_now().await;
                            // The last ones are left unsettled when the consumer goes.
                            if step < 25 {
                                consumer.settle(&tokens(&deliveries));
                            }
                        }
                        Ok(Event::Revoking { partitions, .. }) => consumer.release(&partitions).await.unwrap(),
                        Ok(_) | Err(_) => {}
                    }
                }
                if life % 2 == 0 {
                    consumer.close().await.unwrap();
                }
            }
        })
    };
    let workers: Vec<_> = (0..4).map(|_| worker(8)).collect();
    for worker in workers {
        worker.await.unwrap();
    }
    publishing.await.unwrap();
    // One more takes the rest.
    let mut consumer = broker.consumer(options()).await.unwrap();
    let is_complete =
        |seen: &HashMap<u32, Vec<u32>>| (0..KEYS).all(|key| seen.get(&key).is_some_and(|s| s.contains(&(EACH - 1))));
    while !is_complete(&seen.lock().unwrap()) {
        let deliveries = receive_at_least(&mut consumer, 1).await;
        let mut seen = seen.lock().unwrap();
        for delivery in &deliveries {
            let text = text(delivery);
            let (key, number) = text.split_once(' ').unwrap();
            seen.entry(key.parse().unwrap()).or_default().push(number.parse().unwrap());
        }
        consumer.settle(&tokens(&deliveries));
    }
    for (key, numbers) in &*seen.lock().unwrap() {
        let mut first_seen = Vec::new();
        for number in numbers {
            if !first_seen.contains(number) {
                first_seen.push(*number);
            }
        }
        assert_eq!(first_seen, (0..EACH).collect::<Vec<_>>(), "key {key}: {numbers:?}");
    }
}

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use partitura_broker::{Broker, Message, Ordering, Topology};
use partitura_lanes::{LaneOptions, Outcome, SubscriptionTopics};
use tokio::sync::{Barrier, Semaphore};

use crate::support::{Log, World, text};

#[tokio::test(start_paused = true)]
async fn keys_run_side_by_side_and_never_more_than_allowed() {
    let world = World::new(false).await;
    let (now, most, log) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Log::new());
    let names = (0..100).map(|n| format!("k{}:{n}", n % 20)).collect::<Vec<_>>();
    world.publish(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let running = {
        let (now, most, log) = (now.clone(), most.clone(), log.clone());
        world
            .run(LaneOptions::default().concurrency(4), move |batch| {
                let (now, most, log) = (now.clone(), most.clone(), log.clone());
                async move {
                    most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    now.fetch_sub(1, SeqCst);
                    log.add(text(&batch));
                    Outcome::Done
                }
            })
            .await
    };
    log.count(100).await;
    running.stop().await;
    assert_eq!(most.load(SeqCst), 4);
}

#[tokio::test(start_paused = true)]
async fn messages_without_a_key_and_those_of_shared_topics_are_lanes_of_their_own() {
    let broker: Arc<dyn Broker> = Arc::new(partitura_embedded::Embedded::memory(Default::default()).unwrap());
    let source = SubscriptionTopics::new("jobs".parse().unwrap(), "workers".parse().unwrap(), Ordering::Shared);
    broker.declare(&source.declare_queue(Topology::new(), false).unwrap()).await.unwrap();
    let producer = broker.producer(Default::default()).await.unwrap();
    let job = |n: usize, key: Option<&str>| {
        let message = Message::new(source.topic().clone(), n.to_string(), "");
        match key {
            Some(key) => message.key(key.to_owned()),
            None => message,
        }
    };
    let jobs = vec![job(1, None), job(2, None), job(3, Some("a")), job(4, Some("a"))];
    assert!(producer.publish(jobs).await.iter().all(Result::is_ok));
    // Nobody passes before all four are there.
    let barrier = Arc::new(Barrier::new(5));
    let lanes = {
        let barrier = barrier.clone();
        let handler = crate::support::With(move |_| {
            let barrier = barrier.clone();
            async move {
                barrier.wait().await;
                Outcome::Done
            }
        });
        partitura_lanes::Lanes::open(&*broker, source.clone(), LaneOptions::default(), handler).await.unwrap()
    };
    lanes.run_until(barrier.wait()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_poison_key_with_ten_thousand_messages_behind_it_does_not_stop_other_keys() {
    let world = World::new(true).await;
    let (log, others) = (Log::new(), Log::new());
    let healed = Arc::new(Semaphore::new(0));
    let running = {
        let (log, others, healed) = (log.clone(), others.clone(), healed.clone());
        let retry = partitura_lanes::Retry::fixed(Duration::from_secs(5));
        world
            .run(LaneOptions::default().parking(true).retry(retry), move |batch| {
                let text = text(&batch);
                let poisoned = text == "poison:0" && healed.available_permits() == 0;
                if text.starts_with("poison") {
                    if !poisoned {
                        log.add(text);
                    }
                } else {
                    others.add(text);
                }
                async move { if poisoned { Outcome::retry("poison") } else { Outcome::Done } }
            })
            .await
    };
    world.publish(&["warm:up"]).await;
    others.count(1).await;
    let poison = (0..=10_000).map(|n| world.message("poison", &n.to_string()));
    world.publish_all(poison.collect()).await;
    let other = (0..2_000).map(|n| world.message(&format!("k{}", n % 50), &n.to_string()));
    world.publish_all(other.collect()).await;
    others.count(2_001).await;
    assert_eq!(log.lines().len(), 0);
    healed.add_permits(1);
    let lines = log.count(10_001).await;
    running.stop().await;
    assert!(lines.iter().map(|line| line.trim_start_matches("poison:")).eq((0..=10_000).map(|n| n.to_string())));
}

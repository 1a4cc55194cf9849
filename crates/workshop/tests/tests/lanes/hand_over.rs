use std::sync::Arc;
use std::time::Duration;

use partitura_lanes::{DeadLetters, LaneOptions, Outcome, Retry};
use tokio::sync::Semaphore;

use crate::support::{Log, World, text};

#[tokio::test(start_paused = true)]
async fn a_shutdown_lets_running_handlers_finish_and_leaves_the_rest_untouched() {
    let world = World::new(false).await;
    world.publish(&["k:1", "k:2", "k:3"]).await;
    let log = Log::new();
    let running = {
        let log = log.clone();
        world
            .run(LaneOptions::default().retry(Retry::none()), move |batch| {
                let log = log.clone();
                log.add(format!("begin {}", text(&batch)));
                async move {
                    tokio::time::sleep(Duration::from_secs(5)).await;
                    log.add(format!("end {}", text(&batch)));
                    Outcome::Done
                }
            })
            .await
    };
    log.count(1).await;
    running.stop().await;
    assert_eq!(log.lines(), ["begin k:1", "end k:1"]);
    let letters = DeadLetters::new(world.broker.clone(), world.source.clone()).unwrap();
    assert!(letters.list(1).await.unwrap().is_empty());

    let rest = Log::new();
    let successor = {
        let rest = rest.clone();
        world
            .run(LaneOptions::default(), move |batch| {
                rest.add(format!("{}#{}", text(&batch), batch.attempt()));
                async { Outcome::Done }
            })
            .await
    };
    assert_eq!(rest.count(2).await, ["k:2#1", "k:3#1"]);
    successor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_outlives_the_shutdown_is_dropped_and_its_message_comes_again() {
    let world = World::new(false).await;
    world.publish(&["k:1"]).await;
    let log = Log::new();
    let handler = |log: Log, outlives: bool| {
        move |batch| {
            log.add(text(&batch));
            async move {
                if outlives {
                    std::future::pending::<()>().await;
                }
                Outcome::Done
            }
        }
    };
    let options = LaneOptions::default().drain_within(Duration::from_secs(3));
    let running = world.run(options.clone(), handler(log.clone(), true)).await;
    log.count(1).await;
    running.stop().await;
    let running = world.run(options, handler(log.clone(), false)).await;
    log.count(2).await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn while_messages_are_held_two_consumers_share_the_keys_without_overlap_or_disorder() {
    for parking in [false, true] {
        let world = World::new(parking).await;
        let (log, gate) = (Log::new(), Arc::new(Semaphore::new(0)));
        let handler = |name: &'static str| {
            let (log, gate) = (log.clone(), gate.clone());
            move |batch| {
                let (log, gate) = (log.clone(), gate.clone());
                async move {
                    log.add(format!("begin {}", text(&batch)));
                    gate.acquire().await.unwrap().forget();
                    log.add(format!("end {} by {name}", text(&batch)));
                    Outcome::Done
                }
            }
        };
        let (keys, each) = (12, 5);
        for n in 0..each {
            let messages = (0..keys).map(|key| world.message(&format!("k{key}"), &n.to_string()));
            world.publish_all(messages.collect()).await;
        }
        let options = LaneOptions::default().parking(parking);
        let first = world.run(options.clone(), handler("first")).await;
        log.count(keys).await;
        let second = world.run(options, handler("second")).await;
        // The first is asked to let go while it holds one message of each key.
        tokio::time::sleep(Duration::from_secs(1)).await;
        gate.add_permits(keys * each);
        let done = |log: &Vec<String>| log.iter().filter(|line| line.starts_with("end")).count() >= keys * each;
        let lines = log.until(done).await;
        first.stop().await;
        second.stop().await;
        for key in 0..keys {
            let of = lines.iter().filter(|line| line.contains(&format!(" k{key}:")));
            let seen = of.map(|line| line.split(" by").next().unwrap_or_default().to_owned()).collect::<Vec<_>>();
            let expected = (0..each).flat_map(|n| [format!("begin k{key}:{n}"), format!("end k{key}:{n}")]);
            assert_eq!(seen, expected.collect::<Vec<_>>());
        }
        assert!(lines.iter().any(|line| line.ends_with("by second")), "{lines:?}");
    }
}

use std::collections::BTreeMap;
use std::time::Duration;

use partitura_lanes::{LaneOptions, Outcome, Retry};

use crate::support::{Log, World, text};

fn options() -> LaneOptions {
    let retry = Retry::fixed(Duration::from_secs(60));
    LaneOptions::default().parking(true).hold(Duration::from_secs(5)).retry(retry)
}

#[tokio::test(start_paused = true)]
async fn what_is_parked_past_the_bound_resumes_in_order_with_its_attempts() {
    let world = World::new(true).await;
    let log = Log::new();
    let running = {
        let log = log.clone();
        world
            .run(options(), move |batch| {
                assert_eq!(batch[0].message.topic.as_str(), "orders");
                assert_eq!(batch[0].message.headers.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["trace"]);
                let line = format!("{}#{}", text(&batch), batch.attempt());
                let fails = text(&batch) == "k:1" && batch.attempt() < 4;
                log.add(line);
                async move { if fails { Outcome::retry("not yet") } else { Outcome::Done } }
            })
            .await
    };
    let message = |key: &str, payload: &str| world.message(key, payload).header("trace", "t");
    world.publish_all(vec![message("k", "1"), message("k", "2"), message("other", "1")]).await;
    // The third comes while the key is parked.
    tokio::time::sleep(Duration::from_secs(90)).await;
    world.publish_all(vec![message("k", "3")]).await;
    let lines = log.count(7).await;
    running.stop().await;
    let of = |key: &str| lines.iter().filter(|line| line.starts_with(key)).cloned().collect::<Vec<_>>();
    assert_eq!(of("k"), ["k:1#1", "k:1#2", "k:1#3", "k:1#4", "k:2#1", "k:3#1"]);
    assert_eq!(of("other"), ["other:1#1"]);
}

#[tokio::test(start_paused = true)]
async fn a_new_owner_learns_what_is_parked_before_it_handles_anything() {
    let world = World::new(true).await;
    let log = Log::new();
    let first = {
        let log = log.clone();
        world
            .run(options(), move |batch| {
                log.add(format!("{}#{}", text(&batch), batch.attempt()));
                async move { Outcome::retry("down") }
            })
            .await
    };
    let keys = ["a", "b", "c", "d", "e"];
    for key in keys {
        world.publish(&[&format!("{key}:1"), &format!("{key}:2")]).await;
    }
    // Everything is parked, and has been tried twice.
    log.count(10).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    first.crash().await;
    for key in keys {
        world.publish(&[&format!("{key}:3")]).await;
    }
    let seen = Log::new();
    let second = {
        let seen = seen.clone();
        world
            .run(options(), move |batch| {
                seen.add(format!("{}#{}", text(&batch), batch.attempt()));
                async move { Outcome::Done }
            })
            .await
    };
    let lines = seen.count(15).await;
    second.stop().await;
    let mut by_key = BTreeMap::<_, Vec<_>>::new();
    for line in &lines {
        by_key.entry(&line[..1]).or_default().push(&line[2..]);
    }
    for key in keys {
        assert_eq!(by_key[key], ["1#3", "2#1", "3#1"], "{lines:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_without_order_is_parked_as_well_and_comes_back() {
    let world = World::new(true).await;
    let log = Log::new();
    let running = {
        let log = log.clone();
        world
            .run(options(), move |batch| {
                log.add(batch.attempt().to_string());
                let attempt = batch.attempt();
                async move { if attempt < 3 { Outcome::retry("not yet") } else { Outcome::Done } }
            })
            .await
    };
    let mut message = world.message("", "");
    message.key = None;
    world.publish_all(vec![message]).await;
    assert_eq!(log.count(3).await, ["1", "2", "3"]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_backlog_larger_than_the_credit_does_not_keep_back_what_is_parked() {
    let world = World::new(true).await;
    let messages = (0..3_000).map(|n| world.message(&format!("k{}", n % 100), &n.to_string()));
    world.publish_all(messages.collect()).await;
    let log = Log::new();
    let running = {
        let log = log.clone();
        world
            .run(options(), move |batch| {
                log.add(text(&batch));
                async { Outcome::Done }
            })
            .await
    };
    let done = tokio::time::timeout(Duration::from_secs(3_600), log.count(3_000)).await;
    running.stop().await;
    assert!(done.is_ok(), "{} of 3,000", log.lines().len());
}

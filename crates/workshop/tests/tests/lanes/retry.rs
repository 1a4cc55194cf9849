use std::time::Duration;

use partitura_lanes::{LaneOptions, Outcome, Retry};

use crate::support::{Log, World, text};

#[tokio::test(start_paused = true)]
async fn a_failing_message_blocks_only_its_key() {
    let world = World::new(false).await;
    let log = Log::new();
    let running = {
        let log = log.clone();
        let options = LaneOptions::default().retry(Retry::fixed(Duration::from_secs(10)));
        world
            .run(options, move |batch| {
                log.add(format!("{}#{}", text(&batch), batch.attempt()));
                let fails = text(&batch) == "k:1" && batch.attempt() < 4;
                async move { if fails { Outcome::retry("not yet") } else { Outcome::Done } }
            })
            .await
    };
    world.publish(&["k:1", "k:2", "other:1", "other:2"]).await;
    let lines = log.count(7).await;
    running.stop().await;
    let of = |key: &str| lines.iter().filter(|line| line.starts_with(key)).cloned().collect::<Vec<_>>();
    assert_eq!(of("k"), ["k:1#1", "k:1#2", "k:1#3", "k:1#4", "k:2#1"]);
    assert_eq!(of("other"), ["other:1#1", "other:2#1"]);
    assert!(lines[..3].contains(&"other:1#1".to_owned()), "{lines:?}");
}

#[tokio::test(start_paused = true)]
async fn waits_are_as_long_as_the_policy_says_and_the_handler_may_say_otherwise() {
    let world = World::new(false).await;
    let log = Log::new();
    let start = tokio::time::Instant::now();
    let running = {
        let log = log.clone();
        let options = LaneOptions::default().retry(Retry::exponential().initial(Duration::from_secs(1)).jitter(0.0));
        world
            .run(options, move |batch| {
                log.add(start.elapsed().as_secs().to_string());
                let attempt = batch.attempt();
                async move {
                    match attempt {
                        1 | 2 => Outcome::retry("slow down"),
                        3 => Outcome::retry_after(Duration::from_secs(40), "come back later"),
                        _ => Outcome::Done,
                    }
                }
            })
            .await
    };
    world.publish(&["k:1"]).await;
    assert_eq!(log.count(4).await, ["0", "1", "3", "43"]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_contained_and_counts_as_a_failure() {
    let world = World::new(false).await;
    let log = Log::new();
    let running = {
        let log = log.clone();
        let options = LaneOptions::default().retry(Retry::fixed(Duration::from_secs(1)).max_attempts(2));
        world
            .run(options, move |batch| {
                log.add(format!("{}#{}", text(&batch), batch.attempt()));
                async move {
                    assert!(text(&batch) != "k:1", "no");
                    Outcome::Done
                }
            })
            .await
    };
    world.publish(&["k:1", "k:2"]).await;
    assert_eq!(log.count(3).await, ["k:1#1", "k:1#2", "k:2#1"]);
    running.stop().await;
    let letters = partitura_lanes::DeadLetters::new(world.broker.clone(), world.source.clone()).unwrap();
    let [letter] = &letters.list(10).await.unwrap()[..] else { panic!("one letter") };
    assert_eq!(letter.reason, "gave up after 2 attempts");
    assert_eq!(letter.error.as_deref(), Some("panicked: no"));
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_fails_is_broken_up_to_find_the_one_to_blame() {
    let world = World::new(false).await;
    let log = Log::new();
    world.publish(&["k:1", "k:2", "k:3"]).await;
    let running = {
        let log = log.clone();
        let options = LaneOptions::default().batch(10).retry(Retry::none());
        world
            .run(options, move |batch| {
                let payloads = batch.iter().map(|delivery| String::from_utf8_lossy(&delivery.message.payload));
                let payloads = payloads.collect::<String>();
                log.add(payloads.clone());
                async move { if payloads.contains('2') { Outcome::retry("2") } else { Outcome::Done } }
            })
            .await
    };
    assert_eq!(log.count(4).await, ["123", "1", "2", "3"]);
    running.stop().await;
    let letters = partitura_lanes::DeadLetters::new(world.broker.clone(), world.source.clone()).unwrap();
    let letters = letters.list(10).await.unwrap();
    assert_eq!(letters.iter().map(|letter| &letter.message.payload[..]).collect::<Vec<_>>(), [b"2"]);
}

use std::sync::Arc;
use std::time::Duration;

use partitura_lanes::{DeadLetter, DeadLetters, LaneOptions, Outcome, Retry, Trials};
use tokio::sync::Notify;

use crate::support::{Log, World, text};

async fn letters(world: &World) -> Vec<DeadLetter> {
    DeadLetters::new(world.broker.clone(), world.source.clone()).unwrap().list(10).await.unwrap()
}

fn parking() -> LaneOptions {
    LaneOptions::default().parking(true).crashes(5).retry(Retry::none())
}

/// Plays processes that crash whenever `k:poison` begins, one after another until all of the others are done. Gives the
/// attempts of which `k:poison` was told.
async fn crash_until_done(world: &World, options: &LaneOptions, others: usize) -> Vec<String> {
    let (log, poison) = (Log::new(), Log::new());
    for _ in 0..20 {
        let crash = Arc::new(Notify::new());
        let handler = {
            let (log, poison, crash) = (log.clone(), poison.clone(), crash.clone());
            move |batch| {
                let (log, poison, crash) = (log.clone(), poison.clone(), crash.clone());
                async move {
                    let text = text(&batch);
                    if text == "k:poison" {
                        poison.add(batch.attempt().to_string());
                        crash.notify_one();
                        std::future::pending::<()>().await;
                    }
                    log.add(text);
                    Outcome::Done
                }
            }
        };
        let running = world.run(options.clone().trials(Trials::default()), handler).await;
        let done = async {
            log.until(|lines| (0..others).all(|n| lines.iter().any(|line| line.ends_with(&format!(":{n}"))))).await;
            while letters(world).await.is_empty() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::select! {
            () = crash.notified() => running.crash().await,
            () = done => {
                running.stop().await;
                return poison.lines();
            }
        }
    }
    panic!("the others are not done: {:?}", log.lines());
}

#[tokio::test(start_paused = true)]
async fn a_message_that_ends_its_process_becomes_a_dead_letter_and_the_others_go_on() {
    let world = World::new(true).await;
    world.publish(&["a:0", "k:poison", "k:1", "b:2", "c:3"]).await;
    let runs = crash_until_done(&world, &parking(), 4).await;
    assert_eq!(runs, ["1", "1", "2", "3", "4"]);
    let letters = letters(&world).await;
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!(letter.reason, "its worker or process was lost 5 times while it ran");
    assert_eq!((&*letter.message.payload, letter.attempts), (&b"poison"[..], 5));
    assert!(letter.message.headers.is_empty(), "{:?}", letter.message.headers);
}

#[tokio::test(start_paused = true)]
async fn the_number_of_crashes_can_be_set() {
    let world = World::new(true).await;
    world.publish(&["k:poison", "k:0"]).await;
    assert_eq!(crash_until_done(&world, &parking().crashes(3), 1).await.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn however_often_a_process_crashes_messages_that_wait_are_not_given_up() {
    let world = World::new(true).await;
    let texts: Vec<String> = (0..200).map(|n| format!("k{n}:{n}")).collect();
    world.publish(&texts.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for _ in 0..10 {
        let began = Log::new();
        let handler = {
            let began = began.clone();
            move |batch| {
                began.add(text(&batch));
                std::future::pending::<Outcome>()
            }
        };
        let running = world.run(parking().concurrency(4).trials(Trials::default()), handler).await;
        began.count(1).await;
        running.crash().await;
    }
    let done = Log::new();
    let handler = {
        let done = done.clone();
        move |batch| {
            done.add(text(&batch));
            async { Outcome::Done }
        }
    };
    let running = world.run(parking().concurrency(4).trials(Trials::default()), handler).await;
    // Only a message that was on trial in most of the crashes may be taken for the reason.
    done.count(198).await;
    running.stop().await;
    assert!(letters(&world).await.len() <= 2);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_was_running_when_its_process_was_lost_loses_its_note_when_it_is_done() {
    let world = World::new(true).await;
    world.publish(&["a:0", "a:1"]).await;
    for _ in 0..3 {
        let began = Arc::new(Notify::new());
        let handler = {
            let began = began.clone();
            move |_| {
                began.notify_one();
                std::future::pending::<Outcome>()
            }
        };
        let running = world.run(parking().trials(Trials::default()), handler).await;
        began.notified().await;
        running.crash().await;
    }
    let log = Log::new();
    let handler = {
        let log = log.clone();
        move |batch| {
            log.add(format!("{} {}", text(&batch), batch.attempt()));
            async { Outcome::Done }
        }
    };
    let running = world.run(parking().trials(Trials::default()), handler).await;
    log.count(2).await;
    running.stop().await;
    assert_eq!(log.lines()[0], "a:0 3");
    assert!(log.lines()[1].starts_with("a:1"));
    assert!(letters(&world).await.is_empty());
}

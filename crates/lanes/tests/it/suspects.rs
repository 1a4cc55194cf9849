use std::sync::Arc;
use std::time::Duration;

use partitura_lanes::{DeadLetter, DeadLetters, LaneOptions, Outcome, Retry};
use tokio::sync::Notify;

use crate::support::{Log, World, text};

async fn letters(world: &World) -> Vec<DeadLetter> {
    DeadLetters::new(world.broker.clone(), world.source.clone()).unwrap().list(10).await.unwrap()
}

/// Processes that crash whenever `k:poison` begins, one after another until all of the others are done. Gives how often it
/// began.
async fn crash_until_done(world: &World, options: &LaneOptions, others: usize) -> usize {
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
                        poison.add(format!("attempt {}", batch.attempt()));
                        crash.notify_one();
                        std::future::pending::<()>().await;
                    }
                    log.add(text);
                    Outcome::Done
                }
            }
        };
        let running = world.run(options.clone(), handler).await;
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
                return poison.lines().len();
            }
        }
    }
    panic!("the others are not done: {:?}", log.lines());
}

#[tokio::test(start_paused = true)]
async fn a_message_that_ends_its_process_becomes_a_dead_letter_and_the_others_go_on() {
    let parked = || LaneOptions::default().parking(true).retry(Retry::none());
    let put_back = LaneOptions::default().put_back(true);
    for (world, options) in [(World::new(true).await, parked()), (World::shared().await, put_back)] {
        world.publish(&["a:0", "k:poison", "k:1", "b:2", "c:3"]).await;
        let runs = crash_until_done(&world, &options, 4).await;
        assert_eq!(runs, 5, "{:?}", world.source);
        let letters = letters(&world).await;
        let [letter] = &letters[..] else { panic!("{letters:?}") };
        assert_eq!(letter.reason, "its process ended 5 times while it ran");
        assert_eq!((&*letter.message.payload, letter.attempts), (&b"poison"[..], 5));
        assert!(letter.message.headers.is_empty(), "{:?}", letter.message.headers);
    }
}

#[tokio::test(start_paused = true)]
async fn the_number_of_crashes_can_be_set() {
    let world = World::new(true).await;
    world.publish(&["k:poison", "k:0"]).await;
    let runs = crash_until_done(&world, &LaneOptions::default().parking(true).crashes(2), 1).await;
    assert_eq!(runs, 2);
}

#[tokio::test(start_paused = true)]
async fn however_often_a_process_crashes_before_it_begins_a_message_is_not_given_up() {
    let world = World::new(true).await;
    let texts: Vec<String> = (0..200).map(|n| format!("k{n}:{n}")).collect();
    world.publish(&texts.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let options = LaneOptions::default().parking(true).concurrency(4);
    for _ in 0..10 {
        let began = Log::new();
        let handler = {
            let began = began.clone();
            move |batch| {
                began.add(text(&batch));
                std::future::pending::<Outcome>()
            }
        };
        let running = world.run(options.clone(), handler).await;
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
    let running = world.run(options, handler).await;
    // The one that was running each time is the only one to blame.
    done.count(199).await;
    running.stop().await;
    assert!(letters(&world).await.len() <= 2);
}

//! Two builds of one program at once: what one of them cannot read is left to the other, and nothing fails in between.

use std::time::Duration;

use partitura::contract::{Message, ProducerOptions, TopicName};
use partitura::messaging::Messaging;
use partitura::{Partitura, RunningWorker, Status, Worker, Workflow, WorkflowError, WorkflowHandle};

use crate::builds::{guarded, new, old, strict, unchanged, unguarded};
use crate::in_memory;
use crate::support::{Waits, WaitsSignal, eventually, soon};

/// A worker of one build of `Ships`, which runs another workflow as well.
async fn running<W: Workflow>(partitura: &Partitura, build: &str) -> RunningWorker {
    worker::<W>(partitura, build).start().await.expect("a worker")
}

fn worker<W: Workflow>(partitura: &Partitura, build: &str) -> Worker {
    partitura.worker().workflow::<W>().workflow::<Waits>().build_id(build)
}

/// Another build takes over from the one that runs.
async fn replace<W: Workflow>(before: RunningWorker, partitura: &Partitura, build: &str) -> RunningWorker {
    let after = running::<W>(partitura, build).await;
    before.stop().await.expect("stopped");
    after
}

/// Gives a worker the time to try what it cannot, while an instance of another workflow goes on.
async fn try_for_a_minute(partitura: &Partitura) {
    let waits: WorkflowHandle<Waits> = partitura.client().workflow("other");
    waits.start(()).await.expect("started");
    waits.signal(WaitsSignal::release("fine".into())).await.expect("sent");
    assert_eq!(soon(waits.result()).await.expect("a result"), "fine");
    tokio::time::sleep(Duration::from_secs(60)).await;
}

/// The reasons of the dead letters among the commands to `Ships`.
async fn dead_letters(partitura: &Partitura) -> Vec<String> {
    let messaging = Messaging::over(partitura.broker().clone()).await.expect("messaging");
    let commands =
        messaging.queue::<()>("workflow.Ships.commands").partitions(8).subscription("workers").parking(false);
    let letters = commands.declare().await.expect("as it is").dead_letters("workers").expect("they have names");
    soon(letters.list(10)).await.expect("a list").into_iter().map(|letter| letter.reason).collect()
}

#[tokio::test(start_paused = true)]
async fn an_input_that_the_new_build_cannot_read_is_left_to_the_old_one() {
    let partitura = in_memory().await;
    let before = running::<strict::Ships>(&partitura, "new").await;
    let order = partitura.client().workflow::<old::Ships>("o");
    order.start(old::order()).await.expect("started");
    order.signal(old::ShipsSignal::ship("Ada".into())).await.expect("sent");
    try_for_a_minute(&partitura).await;
    let after = replace::<old::Ships>(before, &partitura, "old").await;
    assert_eq!(soon(order.result()).await.expect("a result"), r#"chair (Some("red")) to Ada"#);
    assert_eq!(dead_letters(&partitura).await, [""; 0]);
    after.stop().await.expect("stopped");
}

#[tokio::test(start_paused = true)]
async fn a_signal_of_a_wider_type_is_left_to_the_new_build() {
    let partitura = in_memory().await;
    let before = running::<old::Ships>(&partitura, "old").await;
    let order = partitura.client().workflow::<new::Ships>("o");
    order.start(new::Order { article: "chair".into(), pieces: 2 }).await.expect("started");
    order.signal(new::ShipsSignal::ship(new::full())).await.expect("sent");
    try_for_a_minute(&partitura).await;
    let after = replace::<new::Ships>(before, &partitura, "new").await;
    let shipped = soon(order.result()).await.expect("a result");
    assert_eq!(shipped, "2 chair to 12 St James's Square in London");
    assert_eq!(dead_letters(&partitura).await, [""; 0]);
    after.stop().await.expect("stopped");
}

#[tokio::test(start_paused = true)]
async fn what_is_optional_may_come_and_go_in_both_directions_without_a_wait() {
    let partitura = in_memory().await;
    let begin = tokio::time::Instant::now();
    let before = running::<old::Ships>(&partitura, "old").await;
    let order = partitura.client().workflow::<new::Ships>("new client, old worker");
    order.start(new::Order { article: "chair".into(), pieces: 2 }).await.expect("started");
    order.signal(new::ShipsSignal::ship(new::Address::Line("Ada".into()))).await.expect("sent");
    assert_eq!(soon(order.result()).await.expect("a result"), "chair (None) to Ada");
    let after = replace::<new::Ships>(before, &partitura, "new").await;
    let order = partitura.client().workflow::<old::Ships>("old client, new worker");
    order.start(old::order()).await.expect("started");
    order.signal(old::ShipsSignal::ship("Ada".into())).await.expect("sent");
    assert_eq!(soon(order.result()).await.expect("a result"), "1 chair to Ada");
    assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", begin.elapsed());
    after.stop().await.expect("stopped");
}

#[tokio::test(start_paused = true)]
async fn what_no_build_can_read_is_reported_after_a_while_with_the_build() {
    let partitura = in_memory().await;
    let limit = Duration::from_secs(90);
    let strict = worker::<strict::Ships>(&partitura, "2.0").try_elsewhere(limit).start().await.expect("a worker");
    let order = partitura.client().workflow::<old::Ships>("o");
    let begin = tokio::time::Instant::now();
    order.start(old::order()).await.expect("started");
    let failed = tokio::time::timeout(limit * 2, order.result()).await.expect("it is reported");
    assert!(begin.elapsed() >= limit, "{:?}", begin.elapsed());
    match failed {
        Err(WorkflowError::Unknown(reason)) => assert!(reason.contains("pieces"), "{reason}"),
        other => panic!("{other:?}"),
    }
    strict.stop().await.expect("stopped");

    let old = worker::<old::Ships>(&partitura, "1.0").try_elsewhere(limit).start().await.expect("a worker");
    let order = partitura.client().workflow::<new::Ships>("p");
    order.start(new::Order { article: "chair".into(), pieces: 2 }).await.expect("started");
    order.signal(new::ShipsSignal::ship(new::full())).await.expect("sent");
    order.signal(new::ShipsSignal::ship(new::Address::Line("Ada".into()))).await.expect("sent");
    let shipped = tokio::time::timeout(limit * 2, order.result()).await.expect("it goes on");
    assert_eq!(shipped.expect("a result"), "chair (None) to Ada");
    let letters = dead_letters(&partitura).await;
    assert!(letters.len() == 1 && letters[0].contains("signal ship") && letters[0].contains("1.0"), "{letters:?}");
    old.stop().await.expect("stopped");
}

#[tokio::test(start_paused = true)]
async fn a_command_of_a_newer_version_is_kept_for_a_while() {
    let partitura = in_memory().await;
    let limit = Duration::from_secs(90);
    let old = worker::<old::Ships>(&partitura, "1.0").try_elsewhere(limit).start().await.expect("a worker");
    let topic = TopicName::new("workflow.Ships.commands").expect("a name");
    let producer = partitura.broker().producer(ProducerOptions::default()).await.expect("a producer");
    let newer = Message::new(topic, "newer", r#"{"Hibernate":{"until":7}}"#).key("o");
    producer.publish(vec![newer]).await.remove(0).expect("published");
    try_for_a_minute(&partitura).await;
    assert_eq!(dead_letters(&partitura).await, [""; 0]);
    tokio::time::sleep(limit).await;
    let letters = dead_letters(&partitura).await;
    assert!(letters.len() == 1 && letters[0].contains("Hibernate") && letters[0].contains("1.0"), "{letters:?}");
    old.stop().await.expect("stopped");
}

/// Starts with one build, ends with another, and with the first again if that one cannot. The reason why it could not.
async fn change_to_and_fro<Before: Workflow, After: Workflow>() -> (Option<String>, String) {
    let partitura = in_memory().await;
    let before = running::<Before>(&partitura, "before").await;
    let instance = partitura.client().workflow::<unchanged::Changes>("c");
    instance.start(()).await.expect("started");
    eventually(|| async { instance.history().await.ok().filter(|events| events.len() >= 3) }).await;
    let after = replace::<After>(before, &partitura, "after").await;
    instance.signal(unchanged::ChangesSignal::end()).await.expect("sent");
    let settled = eventually(|| async {
        match instance.describe().await.ok()?.status {
            Status::Running => None,
            Status::Stopped { reason } => Some(Some(reason)),
            _ => Some(None),
        }
    })
    .await;
    let last = match settled {
        Some(_) => replace::<Before>(after, &partitura, "before").await,
        None => after,
    };
    let result = eventually(|| async { instance.result().await.ok() }).await;
    last.stop().await.expect("stopped");
    (settled, result)
}

#[tokio::test(start_paused = true)]
async fn a_guarded_change_goes_on_in_the_new_build() {
    let (stopped, result) = change_to_and_fro::<unchanged::Changes, guarded::Changes>().await;
    assert_eq!((stopped, result.as_str()), (None, "old"));
}

#[tokio::test(start_paused = true)]
async fn a_change_that_the_other_build_does_not_know_waits_for_a_build_that_does_and_says_which_there_were() {
    for (stopped, result) in [
        change_to_and_fro::<unchanged::Changes, unguarded::Changes>().await,
        change_to_and_fro::<unguarded::Changes, unchanged::Changes>().await,
        change_to_and_fro::<guarded::Changes, unchanged::Changes>().await,
    ] {
        let reason = stopped.expect("it stops");
        assert!(reason.contains("taken by builds before; this is build after"), "{reason}");
        assert!(["old", "new"].contains(&result.as_str()), "{result}");
    }
}

//! Owners that go on with what they know of an instance, after another has gone on with it.

use super::*;

fn pause() -> Command {
    Command::Pause { reason: "a look".into(), request: Request::default() }
}

fn go_on() -> Command {
    Command::GoOn { reason: None, request: Request::default() }
}

/// Owners of which the first knows an instance as paused. The second has let it go on, and signalled it.
async fn overtaken(stage: &Stage, enough: u64) -> (Owner, Owner) {
    let (first, second) = (stage.owner::<Tally>().await, stage.owner::<Tally>().await);
    stage.turn(&first, [("s", start(FIRST, enough, StartPolicy::UseExisting))]).await;
    assert_eq!(stage.turn(&first, [("p", pause())]).await, Outcome::Done);
    assert_eq!(stage.turn(&second, [("g", go_on()), ("a", signal())]).await, Outcome::Done);
    (first, second)
}

async fn turns(stage: &Stage, owner: &Owner) -> u32 {
    let turn_store = &owner.runner.0.context.turn_store;
    crate::storage::history::load(turn_store, &stage.key, FIRST).await.expect("a history").turns
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_another_owner_has_ended_is_not_resumed() {
    let stage = Stage::new().await;
    let (first, second) = overtaken(&stage, 1).await;
    let before = turns(&stage, &second).await;
    assert!(matches!(stage.turn(&first, [("h", go_on())]).await, Outcome::Retry { .. }));
    assert_eq!(turns(&stage, &second).await, before);
    assert_eq!(stage.summary(&stage.owner::<Tally>().await).await.1, Status::Completed);
    // It was read again.
    assert_eq!(stage.turn(&first, [("h", go_on())]).await, Outcome::Done);
    assert_eq!(stage.summary(&first).await.1, Status::Completed);
    assert_eq!(turns(&stage, &second).await, before);
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_goes_on_elsewhere_is_not_resumed_from_before() {
    let stage = Stage::new().await;
    let (first, second) = overtaken(&stage, 3).await;
    assert!(matches!(stage.turn(&first, [("h", go_on())]).await, Outcome::Retry { .. }));
    // The second owner is not disturbed.
    assert_eq!(stage.turn(&second, [("b", signal())]).await, Outcome::Done);
    assert_eq!(stage.count(&stage.owner::<Tally>().await).await, 2);
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_ends_while_it_is_found_to_be_stopped_has_ended() {
    let stage = Stage::new().await;
    let (flawed, repaired) = (stage.owner::<Flawed>().await, stage.owner::<Tally>().await);
    stage.turn(&flawed, [("s", start(FIRST, 1, StartPolicy::UseExisting))]).await;
    // Which builds took its turns is read before, in two reads.
    flawed.gate.close_behind(Point::BeforeHistory, 2);
    let slow = stage.turn(&flawed, [("a", signal())]);
    let ending = async {
        flawed.gate.reached.notified().await;
        assert_eq!(stage.turn(&repaired, [("a", signal())]).await, Outcome::Done);
        flawed.gate.opened.notify_one();
    };
    let (stopped, ()) = tokio::join!(slow, ending);
    assert!(matches!(stopped, Outcome::Retry { .. }), "{stopped:?}");
    assert_eq!(stage.summary(&stage.owner::<Tally>().await).await.1, Status::Completed);
    assert_eq!(turns(&stage, &repaired).await, 2);
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_is_paused_between_two_reads_is_paused() {
    let stage = Stage::new().await;
    let (first, second) = (stage.owner::<Tally>().await, stage.owner::<Tally>().await);
    stage.turn(&second, [("s", start(FIRST, 1, StartPolicy::UseExisting))]).await;
    first.gate.close(Point::BeforeHistory);
    let slow = stage.turn(&first, [("a", signal())]);
    let pausing = async {
        first.gate.reached.notified().await;
        assert_eq!(stage.turn(&second, [("p", pause())]).await, Outcome::Done);
        first.gate.opened.notify_one();
    };
    tokio::join!(slow, pausing);
    assert!(matches!(stage.summary(&first).await.1, Status::Paused { .. }));
    assert!(matches!(stage.summary(&stage.owner::<Tally>().await).await.1, Status::Paused { .. }));
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_goes_on_between_two_reads_goes_on() {
    let stage = Stage::new().await;
    let (first, second) = (stage.owner::<Tally>().await, stage.owner::<Tally>().await);
    stage.turn(&second, [("s", start(FIRST, 2, StartPolicy::UseExisting))]).await;
    stage.turn(&second, [("p", pause())]).await;
    first.gate.close(Point::BeforeHistory);
    let slow = stage.turn(&first, [("b", signal())]);
    let going_on = async {
        first.gate.reached.notified().await;
        assert_eq!(stage.turn(&second, [("g", go_on()), ("a", signal())]).await, Outcome::Done);
        first.gate.opened.notify_one();
    };
    tokio::join!(slow, going_on);
    assert_eq!(stage.summary(&stage.owner::<Tally>().await).await.1, Status::Completed);
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_begins_after_its_partition_went_elsewhere_is_not_taken() {
    let stage = Stage::new().await;
    let (first, second) = (stage.owner::<Tally>().await, stage.owner::<Tally>().await);
    stage.turn(&first, [("s", start(FIRST, 9, StartPolicy::UseExisting))]).await;
    // It is noted first that the turn begins.
    let late = stage.turn(&first, [("s", start(FIRST, 9, StartPolicy::UseExisting))]);
    first.runner.released(&[Partition(0)]);
    assert_eq!(late.await, Outcome::Lost);
    assert_eq!(stage.turn(&second, [("a", signal())]).await, Outcome::Done);
    // The partition is the first owner's again: it sees what the second has done.
    assert_eq!(stage.count(&first).await, 1);
}

//! Two builds of one program at once, in processes of their own, on one broker.

use std::collections::BTreeSet;

use partitura::{Partitura, RunningWorker, Status, Workflow, WorkflowHandle};

use crate::builds::{guarded, new, old, strict, unchanged, unguarded};
use crate::shop::{self, Calls};
use crate::stage::Stage;
use crate::support::{Waits, WaitsSignal, eventually, soon};

/// How many instances of each kind: with four partitions, both builds own some of them.
const EACH: usize = 12;

async fn worker<W: Workflow>(partitura: &Partitura, build: &str) -> RunningWorker {
    let worker = partitura.worker().workflow::<W>().workflow::<Waits>().build_id(build);
    worker.start().await.expect("a worker")
}

/// Instances of another workflow go on in both builds, whatever waits there for the other build.
async fn others_go_on(partitura: &Partitura) {
    for number in 0..EACH {
        let waits: WorkflowHandle<Waits> = partitura.client().workflow(format!("other {number}"));
        waits.start(()).await.expect("started");
        waits.signal(WaitsSignal::release("fine".into())).await.expect("sent");
        assert_eq!(soon(waits.result()).await.expect("a result"), "fine");
    }
}

pub(crate) async fn what_is_optional_may_come_and_go_while_both_builds_run(stage: Stage) {
    let [one, other, client] = stage.processes(|settings| settings).await;
    let (before, after) = (worker::<old::Ships>(&one, "old").await, worker::<new::Ships>(&other, "new").await);
    let all = ["chair (None) to Ada", "2 chair to Ada", "chair (Some(\"red\")) to Ada", "1 chair to Ada"];
    let (mut shipped, mut number) = (BTreeSet::new(), 0);
    // One build may have all partitions for a while.
    while number < EACH || (shipped.len() < all.len() && number < 200) {
        number += 1;
        let order = client.client().workflow::<new::Ships>(format!("new {number}"));
        order.start(new::Order { article: "chair".into(), pieces: 2 }).await.expect("started");
        order.signal(new::ShipsSignal::ship(new::Address::Line("Ada".into()))).await.expect("sent");
        shipped.insert(soon(order.result()).await.expect("a result"));
        let order = client.client().workflow::<old::Ships>(format!("old {number}"));
        order.start(old::order()).await.expect("started");
        order.signal(old::ShipsSignal::ship("Ada".into())).await.expect("sent");
        shipped.insert(soon(order.result()).await.expect("a result"));
    }
    assert_eq!(shipped, all.map(str::to_owned).into(), "each build has taken orders of both kinds");
    before.stop().await.expect("stopped");
    after.stop().await.expect("stopped");
}

pub(crate) async fn a_signal_of_a_wider_type_waits_in_the_old_build_for_the_new_one(stage: Stage) {
    let [one, other, client] = stage.processes(|settings| settings).await;
    let (before, after) = (worker::<old::Ships>(&one, "old").await, worker::<new::Ships>(&other, "new").await);
    let orders: Vec<_> =
        (0..EACH).map(|number| client.client().workflow::<new::Ships>(format!("o {number}"))).collect();
    for order in &orders {
        order.start(new::Order { article: "chair".into(), pieces: 2 }).await.expect("started");
        order.signal(new::ShipsSignal::ship(new::full())).await.expect("sent");
    }
    others_go_on(&client).await;
    before.stop().await.expect("stopped");
    for order in &orders {
        let shipped = soon(order.result()).await.expect("a result");
        assert_eq!(shipped, "2 chair to 12 St James's Square in London");
    }
    after.stop().await.expect("stopped");
}

pub(crate) async fn an_input_that_the_new_build_cannot_read_waits_there_for_the_old_one(stage: Stage) {
    let [one, other, client] = stage.processes(|settings| settings).await;
    let (before, after) = (worker::<old::Ships>(&one, "old").await, worker::<strict::Ships>(&other, "new").await);
    let orders: Vec<_> =
        (0..EACH).map(|number| client.client().workflow::<old::Ships>(format!("o {number}"))).collect();
    for order in &orders {
        order.start(old::order()).await.expect("started");
        order.signal(old::ShipsSignal::ship("Ada".into())).await.expect("sent");
    }
    others_go_on(&client).await;
    // The new build is taken back.
    after.stop().await.expect("stopped");
    for order in &orders {
        assert_eq!(soon(order.result()).await.expect("a result"), r#"chair (Some("red")) to Ada"#);
    }
    before.stop().await.expect("stopped");
}

pub(crate) async fn methods_and_arguments_that_one_build_does_not_know_are_left_to_the_other(stage: Stage) {
    let [one, other, client] = stage.processes(|settings| settings).await;
    let calls = Calls::default();
    let before = one.worker().service(shop::old::ShopService(calls.clone())).build_id("old");
    let before = before.start().await.expect("a worker");
    let after = other.worker().service(shop::new::ShopService(calls.clone())).build_id("new");
    let after = after.start().await.expect("a worker");
    let conducting = client.worker().workflow::<shop::old::Buys>().workflow::<shop::new::Buys>();
    let conducting = conducting.start().await.expect("a worker");
    let old: Vec<_> = (0..EACH).map(|number| client.client().workflow::<shop::old::Buys>(number.to_string())).collect();
    let new: Vec<_> = (0..EACH).map(|number| client.client().workflow::<shop::new::Buys>(number.to_string())).collect();
    for (old, new) in old.iter().zip(&new) {
        old.start(()).await.expect("started");
        new.start(()).await.expect("started");
    }
    for (old, new) in old.iter().zip(&new) {
        let bought = soon(old.result()).await.expect("a result");
        assert!(["old pay 7 Some(\"red\")", "new pay 7"].contains(&&*bought[0]), "{bought:?}");
        assert_eq!(bought[1], "old send chair", "the new build cannot do without `express`");
        let bought = soon(new.result()).await.expect("a result");
        assert!(["old pay 7 None", "new pay 7"].contains(&&*bought[0]), "{bought:?}");
        assert_eq!(bought[1], "new refund 2");
        assert!(["old send chair", "new send chair true"].contains(&&*bought[2]), "{bought:?}");
    }
    let tasks: BTreeSet<String> = calls.all().into_iter().map(|(task, _)| task).collect();
    assert_eq!((calls.all().len(), tasks.len()), (5 * EACH, 5 * EACH), "each task is called once");
    for worker in [before, after, conducting] {
        worker.stop().await.expect("stopped");
    }
}

/// Begins with one build; the other joins, and the first one leaves. If instances stop in the other one, the first one
/// comes back. All end well, with the text of the build that began them. Gives why instances stopped.
async fn change_while_both_run<Before: Workflow, After: Workflow>(stage: Stage, begun_by: &str) -> Vec<String> {
    let [one, other, client] = stage.processes(|settings| settings).await;
    let before = worker::<Before>(&one, "before").await;
    let instances: Vec<_> =
        (0..EACH).map(|number| client.client().workflow::<unchanged::Changes>(number.to_string())).collect();
    for instance in &instances {
        instance.start(()).await.expect("started");
    }
    for instance in &instances {
        eventually(|| async { instance.history().await.ok().filter(|events| events.len() >= 3) }).await;
    }
    let after = worker::<After>(&other, "after").await;
    let (while_both_run, later) = instances.split_at(EACH / 2);
    for instance in while_both_run {
        instance.signal(unchanged::ChangesSignal::end()).await.expect("sent");
    }
    before.stop().await.expect("stopped");
    for instance in later {
        instance.signal(unchanged::ChangesSignal::end()).await.expect("sent");
    }
    let mut reasons = Vec::new();
    for instance in &instances {
        reasons.extend(eventually(|| async { settled(instance).await }).await);
    }
    let last = match reasons.is_empty() {
        true => after,
        false => {
            let again = worker::<Before>(&one, "before").await;
            after.stop().await.expect("stopped");
            again
        }
    };
    for instance in &instances {
        assert_eq!(soon(instance.result_through_stops()).await.expect("a result"), begun_by);
    }
    last.stop().await.expect("stopped");
    reasons
}

/// Whether it has ended, or why it cannot go on; `None` while it runs.
async fn settled(instance: &WorkflowHandle<unchanged::Changes>) -> Option<Option<String>> {
    match instance.describe().await.ok()?.status {
        Status::Running => None,
        Status::Stopped { reason } => Some(Some(reason)),
        _ => Some(None),
    }
}

/// Those that were left to the other build; the first one may have ended some while both ran.
fn assert_stopped(reasons: &[String]) {
    assert!(reasons.len() >= EACH / 2, "{reasons:?}");
    for reason in reasons {
        assert!(reason.contains("taken by builds before; this is build after"), "{reason}");
    }
}

pub(crate) async fn a_guarded_change_goes_on_in_the_new_build(stage: Stage) {
    let reasons = change_while_both_run::<unchanged::Changes, guarded::Changes>(stage, "old").await;
    assert_eq!(reasons, [""; 0]);
}

pub(crate) async fn an_unguarded_change_waits_for_the_old_build(stage: Stage) {
    assert_stopped(&change_while_both_run::<unchanged::Changes, unguarded::Changes>(stage, "old").await);
}

pub(crate) async fn an_unguarded_change_that_is_taken_back_waits_for_the_new_build(stage: Stage) {
    assert_stopped(&change_while_both_run::<unguarded::Changes, unchanged::Changes>(stage, "new").await);
}

pub(crate) async fn a_guarded_change_that_is_taken_back_waits_for_the_new_build(stage: Stage) {
    assert_stopped(&change_while_both_run::<guarded::Changes, unchanged::Changes>(stage, "new").await);
}

pub(crate) async fn a_deployment_sees_what_its_code_would_stop_before_it_takes_over(stage: Stage) {
    let [one, other] = stage.processes(|settings| settings).await;
    let before = worker::<unchanged::Changes>(&one, "before").await;
    let instances: Vec<_> =
        (0..EACH).map(|number| one.client().workflow::<unchanged::Changes>(number.to_string())).collect();
    for instance in &instances {
        instance.start(()).await.expect("started");
    }
    let mut histories = Vec::new();
    for instance in &instances {
        histories.push(eventually(|| async { instance.history().await.ok().filter(|events| events.len() >= 3) }).await);
    }
    let guarded = other.worker().workflow::<guarded::Changes>().check().await.expect("read");
    assert_eq!((guarded.is_fit(), guarded.replayed, guarded.misfits), (true, EACH, 0), "{guarded}");
    let unguarded = other.worker().workflow::<unguarded::Changes>().check().await.expect("read");
    assert_eq!((unguarded.is_fit(), unguarded.replayed, unguarded.misfits), (false, EACH, EACH), "{unguarded}");
    for misfit in &unguarded.named {
        assert_eq!((misfit.workflow.as_str(), misfit.event, misfit.status.name()), ("Changes", Some(1), "running"));
        assert!(misfit.reason.contains("StepScheduled new"), "{misfit}");
    }
    // Nothing has changed by that.
    for (instance, history) in instances.iter().zip(&histories) {
        assert_eq!(&soon(instance.history()).await.expect("a history"), history);
        instance.signal(unchanged::ChangesSignal::end()).await.expect("sent");
        assert_eq!(soon(instance.result()).await.expect("a result"), "old");
    }
    let none = other.worker().workflow::<unguarded::Changes>().check().await.expect("read");
    assert_eq!((none.is_fit(), none.replayed), (true, 0));
    before.stop().await.expect("stopped");
}

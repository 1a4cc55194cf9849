//! Starts that find an instance, or none, and instances whose time is up.

use std::time::Instant;

use partitura::{ClientError, StartPolicy, Status, WorkflowError, millis, seconds};

use crate::stage::Stage;
use crate::support::{Waits, WaitsSignal, soon};

pub(crate) async fn a_start_says_which_run_there_is_and_whether_it_is_new(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Waits>().start().await.expect("a worker");
    let waits = partitura.client().workflow::<Waits>("w");
    let first = soon(waits.start(()).confirmed()).await.expect("started");
    let second = soon(waits.start(()).confirmed()).await.expect("taken");
    assert!(first.is_new && !second.is_new);
    assert_eq!((&first.run, &soon(waits.describe()).await.expect("known").run), (&second.run, &first.run));
    let replaced = soon(waits.start(()).policy(StartPolicy::Replace).confirmed()).await.expect("started");
    assert!(replaced.is_new && replaced.run != first.run);
    worker.stop().await.expect("stopped");
}

pub(crate) async fn a_start_may_begin_anew_what_has_ended_or_failed(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Waits>().start().await.expect("a worker");
    let waits = partitura.client().workflow::<Waits>("w");
    let start = async |policy| soon(waits.start(()).policy(policy).confirmed()).await.expect("started");
    let first = start(StartPolicy::RestartEnded).await;
    assert!(first.is_new);
    assert!(!start(StartPolicy::RestartEnded).await.is_new, "it runs");
    waits.signal(WaitsSignal::release("one".into())).await.expect("sent");
    assert_eq!(soon(waits.result()).await.expect("a result"), "one");
    assert!(!start(StartPolicy::RestartFailed).await.is_new, "it has a result");
    let second = start(StartPolicy::RestartEnded).await;
    assert!(second.is_new && second.run != first.run);
    waits.terminate("enough").await.expect("sent");
    assert!(matches!(soon(waits.result()).await, Err(WorkflowError::Terminated(_))));
    assert!(start(StartPolicy::RestartFailed).await.is_new);
    waits.signal(WaitsSignal::release("three".into())).await.expect("sent");
    assert_eq!(soon(waits.result()).await.expect("a result"), "three");
    worker.stop().await.expect("stopped");
}

pub(crate) async fn a_signal_that_goes_with_a_start_counts_once(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Waits>().start().await.expect("a worker");
    let client = partitura.client();
    let release = |text: &str| WaitsSignal::release(text.into());
    // To an instance that it starts.
    let new = client.workflow::<Waits>("new");
    assert!(soon(new.start(()).with_signal(release("at once")).confirmed()).await.expect("started").is_new);
    assert_eq!(soon(new.result()).await.expect("a result"), "at once");
    // To one that is there.
    let old = client.workflow::<Waits>("old");
    old.start(()).await.expect("started");
    assert!(!soon(old.start(()).with_signal(release("later")).confirmed()).await.expect("taken").is_new);
    assert_eq!(soon(old.result()).await.expect("a result"), "later");
    // To one that has ended, and to one that is begun anew.
    let ended = soon(old.start(()).with_signal(release("too late")).confirmed()).await;
    assert!(matches!(ended, Err(ClientError::Ended { .. })), "{ended:?}");
    let again = old.start(()).policy(StartPolicy::RestartEnded).with_signal(release("again"));
    assert!(soon(again.confirmed()).await.expect("started").is_new);
    assert_eq!(soon(old.result()).await.expect("a result"), "again");
    // Not to one that must not be there.
    let refused = client.workflow::<Waits>("taken");
    refused.start(()).await.expect("started");
    let start = refused.start(()).policy(StartPolicy::Reject).with_signal(release("not for it"));
    assert!(matches!(soon(start.confirmed()).await, Err(ClientError::AlreadyExists { .. })));
    assert_eq!(soon(refused.describe()).await.expect("known").status, Status::Running);
    worker.stop().await.expect("stopped");
}

pub(crate) async fn an_instance_whose_time_is_up_is_ended(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Waits>().start().await.expect("a worker");
    let client = partitura.client();
    let (whole, run) = (client.workflow::<Waits>("whole"), client.workflow::<Waits>("run"));
    whole.start(()).timeout(seconds(1)).await.expect("started");
    run.start(()).run_timeout(seconds(1)).timeout(seconds(60)).await.expect("started");
    for waits in [&whole, &run] {
        match soon(waits.result()).await {
            Err(WorkflowError::TimedOut(message)) => assert!(message.contains("within the time"), "{message}"),
            other => panic!("{other:?}"),
        }
        assert_eq!(soon(waits.describe()).await.expect("known").status, Status::Failed);
    }
    let in_time = client.workflow::<Waits>("in time");
    in_time.start(()).timeout(seconds(30)).await.expect("started");
    in_time.signal(WaitsSignal::release("in time".into())).await.expect("sent");
    assert_eq!(soon(in_time.result()).await.expect("a result"), "in time");
    worker.stop().await.expect("stopped");
}

pub(crate) async fn a_delayed_start_begins_at_its_time_and_not_before(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Waits>().start().await.expect("a worker");
    let waits = partitura.client().workflow::<Waits>("later");
    let began = Instant::now();
    let start = waits.start(()).with_signal(WaitsSignal::release("later".into())).after(millis(1_500));
    start.await.expect("sent");
    let found = soon(waits.describe()).await;
    assert!(matches!(found, Err(ClientError::NotFound { .. })) || began.elapsed() >= millis(1_500), "{found:?}");
    assert_eq!(soon(waits.result()).await.expect("a result"), "later");
    assert!(began.elapsed() >= millis(1_500), "{:?}", began.elapsed());
    worker.stop().await.expect("stopped");
}

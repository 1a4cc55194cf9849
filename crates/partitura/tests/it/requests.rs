//! Signals, cancellations and terminations: what their senders are told, and what happens once.

use partitura::{ClientError, Cx, Signal, StartPolicy, Status, WorkflowError};

use crate::in_memory;
use crate::support::{Oops, Waits, WaitsSignal, soon};

/// Counts signals; ends at ten.
#[derive(Debug, Default)]
struct Counts {
    count: u32,
}

#[partitura::workflow]
impl Counts {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<u32, Oops> {
        cx.until(|counts: &Counts| counts.count >= 10).await?;
        Ok(cx.state(|counts| counts.count))
    }

    #[signal]
    fn add(&mut self, number: u32) {
        self.count += number;
    }

    #[query]
    fn count(&self) -> u32 {
        self.count
    }
}

#[tokio::test(start_paused = true)]
async fn the_sender_of_a_request_is_told_whether_it_had_an_effect() {
    let partitura = in_memory().await;
    let worker = partitura.worker().workflow::<Waits>().start().await.expect("a worker");
    let waits = partitura.client().workflow::<Waits>("w");
    let release = || waits.signal(WaitsSignal::release("now".into())).confirmed();
    assert!(matches!(soon(release().into_future()).await, Err(ClientError::NotFound { .. })));
    assert!(matches!(waits.cancel("no").confirmed().await, Err(ClientError::NotFound { .. })));
    assert!(matches!(waits.terminate("no").confirmed().await, Err(ClientError::NotFound { .. })));
    waits.start(()).await.expect("started");
    let malformed = waits.signal(Signal::to_channel("release", &[1, 2, 3])).confirmed().await;
    assert!(matches!(&malformed, Err(ClientError::Refused(reason)) if reason.contains("release")), "{malformed:?}");
    release().await.expect("taken");
    assert_eq!(soon(waits.result()).await.expect("a result"), "now");
    let run = waits.describe().await.expect("known").run.clone();
    for late in [release(), waits.cancel("late").confirmed(), waits.terminate("late").confirmed()] {
        assert!(matches!(late.await, Err(ClientError::Ended { run: ended, .. }) if ended == run));
    }
    worker.stop().await.expect("stopped");
}

#[tokio::test(start_paused = true)]
async fn a_signal_counts_once_under_the_id_that_its_sender_gave_it_also_after_the_end() {
    let partitura = in_memory().await;
    let worker = partitura.worker().workflow::<Counts>().start().await.expect("a worker");
    let client = partitura.client();
    let counts = client.workflow::<Counts>("c");
    counts.start(()).await.expect("started");
    let add = |number, id: &str| counts.signal(CountsSignal::add(number)).id(id).confirmed();
    for _ in 0..3 {
        add(3, "first").await.expect("taken");
    }
    assert_eq!(soon(counts.query(CountsQuery::count())).await.expect("an answer"), 3);
    // The same id means something else to another instance.
    let other = client.workflow::<Counts>("other");
    other.start(()).await.expect("started");
    other.signal(CountsSignal::add(5)).id("first").confirmed().await.expect("taken");
    assert_eq!(soon(other.query(CountsQuery::count())).await.expect("an answer"), 5);
    add(7, "last").await.expect("taken");
    assert_eq!(soon(counts.result()).await.expect("a result"), 10);
    // Its sender, who was not told, tries again: it was taken.
    add(7, "last").await.expect("it was taken");
    assert!(matches!(add(1, "late").await, Err(ClientError::Ended { .. })));
    let unusable = counts.signal(CountsSignal::add(1)).id("").await;
    assert!(matches!(unusable, Err(ClientError::InvalidId(_))), "{unusable:?}");
    worker.stop().await.expect("stopped");
}

#[tokio::test(start_paused = true)]
async fn a_termination_whose_answer_was_lost_can_be_asked_for_again() {
    let partitura = in_memory().await;
    let worker = partitura.worker().workflow::<Waits>().start().await.expect("a worker");
    for (id, ends) in [("terminated", true), ("cancelled", false)] {
        let waits = partitura.client().workflow::<Waits>(id);
        let request = |reason: &str| if ends { waits.terminate(reason) } else { waits.cancel(reason) };
        waits.start(()).await.expect("started");
        request("enough").confirmed().await.expect("taken");
        soon(waits.result()).await.expect_err("ended early");
        request("enough").confirmed().await.expect("it was taken");
        assert!(matches!(request("more").confirmed().await, Err(ClientError::Ended { .. })));
    }
    worker.stop().await.expect("stopped");
}

#[tokio::test(start_paused = true)]
async fn a_request_to_a_run_spares_its_successor() {
    let partitura = in_memory().await;
    let worker = partitura.worker().workflow::<Waits>().start().await.expect("a worker");
    let waits = partitura.client().workflow::<Waits>("w");
    waits.start(()).await.expect("started");
    let old = waits.describe().await.expect("known").run.clone();
    waits.cancel("wrong run").run("another").await.expect("sent");
    waits.clone().start(()).policy(StartPolicy::Replace).await.expect("started");
    for late in [waits.terminate("old"), waits.cancel("old"), waits.signal(WaitsSignal::release("old".into()))] {
        let told = late.run(old.clone()).confirmed().await;
        assert!(matches!(&told, Err(ClientError::AnotherRun { run, .. }) if *run != old), "{told:?}");
    }
    assert_eq!(waits.describe().await.expect("known").status, Status::Running);
    waits.cancel("this one").run(waits.describe().await.expect("known").run.clone()).confirmed().await.expect("taken");
    assert!(matches!(soon(waits.result()).await, Err(WorkflowError::Cancelled { .. })));
    worker.stop().await.expect("stopped");
}

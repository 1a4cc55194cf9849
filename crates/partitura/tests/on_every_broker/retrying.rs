//! Workflows that fail and are tried again under their id.

use partitura::history::EventKind;
use partitura::{
    Cancelled, ChildError, Cx, ReceiveError, Retry, Signal, Status, WorkflowError, hours, millis, seconds,
};
use serde::{Deserialize, Serialize};

use crate::stage::{Stage, forgetful};
use crate::support::{eventually, soon};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
enum Trouble {
    #[error("busy in attempt {0}")]
    Busy(u32),
    #[error("closed")]
    Closed,
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    #[error("{0}")]
    Receive(String),
}

impl From<ReceiveError> for Trouble {
    fn from(error: ReceiveError) -> Self {
        Self::Receive(error.to_string())
    }
}

/// Is busy before an attempt, and says then in which one it is.
#[derive(Debug, Default)]
struct Import;

#[partitura::workflow(retry = Retry::fixed(millis(20)), retry_if = |trouble| matches!(trouble, Trouble::Busy(_)))]
impl Import {
    #[run]
    async fn run(cx: Cx<Self>, until: u32) -> Result<u32, Trouble> {
        cx.sleep(millis(1)).await?;
        match cx.attempt() {
            attempt if until == 0 => Err(Trouble::Closed).inspect_err(|_| assert_eq!(attempt, 1)),
            attempt if attempt < until => Err(Trouble::Busy(attempt)),
            attempt => Ok(attempt),
        }
    }
}

/// Takes a signal in each attempt, and fails with all but the word.
#[derive(Debug, Default)]
struct Guess;

#[partitura::workflow]
impl Guess {
    #[run]
    async fn run(cx: Cx<Self>, word: String) -> Result<u32, Trouble> {
        let guess: String = cx.channel("guess").recv().await?;
        if guess == word { Ok(cx.attempt()) } else { Err(Trouble::Busy(cx.attempt())) }
    }
}

/// Has a child, with another policy than that of its workflow.
#[derive(Debug, Default)]
struct Office;

#[partitura::workflow]
impl Office {
    #[run]
    async fn run(cx: Cx<Self>, (child, most): (String, u32)) -> Result<u32, ChildError<Trouble>> {
        cx.child::<Import>(child).retry(Retry::fixed(millis(1)).max_attempts(most)).run(3).await
    }
}

pub(crate) async fn a_workflow_that_fails_is_tried_again_and_gives_the_result_of_its_last_attempt(stage: Stage) {
    let [partitura] = stage.processes(forgetful).await;
    let worker = partitura.worker().workflow::<Import>().start().await.expect("a worker");
    let client = partitura.client();
    let import = client.workflow::<Import>("prices");
    import.start(3).await.expect("started");
    assert_eq!(soon(import.result()).await.expect("a result"), 3);
    let described = soon(import.describe()).await.expect("known");
    assert_eq!((described.status, described.attempt), (Status::Completed, 3));
    let first = described.first_run.expect("there was a run before");
    let history = soon(import.history()).await.expect("a history");
    let EventKind::WorkflowStarted(started) = &history[0].kind else { panic!("{history:?}") };
    assert_eq!((started.attempt(), started.continued.as_ref().map(|before| &before.first)), (3, Some(&first)));
    // A final error is not tried again, and the policy of a start stands for that of the workflow.
    let closed = client.workflow::<Import>("closed");
    closed.start(0).await.expect("started");
    assert!(matches!(soon(closed.result()).await, Err(WorkflowError::Failed(Trouble::Closed))));
    let once = client.workflow::<Import>("once");
    once.start(3).retry(Retry::none()).await.expect("started");
    assert!(matches!(soon(once.result()).await, Err(WorkflowError::Failed(Trouble::Busy(1)))));
    let twice = client.workflow::<Import>("twice");
    twice.start(3).retry(Retry::fixed(millis(1)).max_attempts(2)).await.expect("started");
    assert!(matches!(soon(twice.result()).await, Err(WorkflowError::Failed(Trouble::Busy(2)))));
    worker.stop().await.expect("stopped");
}

pub(crate) async fn a_parent_gets_the_outcome_of_the_last_attempt_of_its_child(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Import>().workflow::<Office>().start().await.expect("a worker");
    let client = partitura.client();
    let (enough, few) = (client.workflow::<Office>("enough"), client.workflow::<Office>("few"));
    enough.start(("one".to_owned(), 5)).await.expect("started");
    few.start(("two".to_owned(), 2)).await.expect("started");
    assert_eq!(soon(enough.result()).await.expect("a result"), 3);
    let failed = soon(few.result()).await;
    let Err(WorkflowError::Failed(ChildError::Failed(Trouble::Busy(2)))) = failed else { panic!("{failed:?}") };
    worker.stop().await.expect("stopped");
}

pub(crate) async fn a_run_whose_time_is_over_is_tried_again_within_the_time_of_the_whole(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Guess>().start().await.expect("a worker");
    let client = partitura.client();
    let slow = client.workflow::<Guess>("slow");
    let start = slow.start("nut".to_owned()).retry(Retry::fixed(millis(1))).run_timeout(millis(300));
    start.await.expect("started");
    let attempt = async |least| {
        eventually(async || slow.describe().await.ok().filter(|found| found.attempt >= least)).await.attempt
    };
    assert!(attempt(2).await >= 2);
    slow.signal(Signal::to_channel("guess", &"nut".to_owned())).await.expect("sent");
    assert!(soon(slow.result()).await.expect("a result") >= 2);
    let never = client.workflow::<Guess>("never");
    let start = never.start("nut".to_owned()).retry(Retry::fixed(millis(1)));
    start.run_timeout(millis(300)).timeout(seconds(5)).await.expect("started");
    assert!(matches!(soon(never.result()).await, Err(WorkflowError::TimedOut(_))));
    assert!(soon(never.describe()).await.expect("known").attempt >= 2);
    worker.stop().await.expect("stopped");
}

pub(crate) async fn an_attempt_that_waits_begins_in_the_next_worker_with_the_signals_that_came(stage: Stage) {
    let [first, second] = stage.processes(|settings| settings).await;
    let worker = first.worker().workflow::<Guess>().start().await.expect("a worker");
    let guess = second.client().workflow::<Guess>("g");
    guess.start("nut".to_owned()).retry(Retry::fixed(millis(500)).max_attempts(3)).await.expect("started");
    guess.signal(Signal::to_channel("guess", &"pea".to_owned())).await.expect("sent");
    eventually(async || guess.describe().await.ok().filter(|found| found.attempt == 2)).await;
    worker.stop().await.expect("stopped");
    guess.signal(Signal::to_channel("guess", &"nut".to_owned())).await.expect("sent");
    let worker = second.worker().workflow::<Guess>().start().await.expect("a worker");
    assert_eq!(soon(guess.result()).await.expect("a result"), 2);
    worker.stop().await.expect("stopped");
}

pub(crate) async fn what_is_cancelled_or_terminated_while_an_attempt_waits_is_not_tried_again(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Guess>().start().await.expect("a worker");
    let client = partitura.client();
    let (cancelled, terminated) = (client.workflow::<Guess>("cancelled"), client.workflow::<Guess>("terminated"));
    for guess in [&cancelled, &terminated] {
        guess.start("nut".to_owned()).retry(Retry::fixed(hours(1))).await.expect("started");
        guess.signal(Signal::to_channel("guess", &"pea".to_owned())).await.expect("sent");
        eventually(async || guess.describe().await.ok().filter(|found| found.attempt == 2)).await;
    }
    cancelled.cancel("enough").await.expect("sent");
    terminated.terminate("enough").await.expect("sent");
    assert!(matches!(soon(cancelled.result()).await, Err(WorkflowError::Cancelled { .. })));
    assert!(matches!(soon(terminated.result()).await, Err(WorkflowError::Terminated(_))));
    worker.stop().await.expect("stopped");
}

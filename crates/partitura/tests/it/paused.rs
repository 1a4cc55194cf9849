//! Questions about instances whose workflow is paused run no code.

use partitura::history::EventKind;
use partitura::{
    Cancelled, ClientError, Cx, Partitura, Pausable, ReceiveError, RunningWorker, Status, Workflow, days, minutes,
};

use crate::in_memory;
use crate::support::soon;

/// Waits, and tells that.
#[derive(Debug, Default)]
struct Sound;

#[partitura::workflow(name = "Broken")]
impl Sound {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(), ReceiveError> {
        cx.channel::<()>("end").recv().await
    }

    #[query]
    fn is_sound(&self) -> bool {
        true
    }
}

/// The same after a change that its instances do not survive.
#[derive(Debug, Default)]
struct Broken;

#[partitura::workflow]
impl Broken {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(), Cancelled> {
        cx.sleep(days(1)).await
    }

    #[query]
    fn is_sound(&self) -> bool {
        false
    }
}

async fn worker<W: Workflow>(partitura: &Partitura) -> RunningWorker {
    partitura.worker().workflow::<W>().start().await.expect("a worker")
}

#[tokio::test(start_paused = true)]
async fn a_question_about_an_instance_of_a_paused_workflow_does_not_run_its_code() {
    let partitura = in_memory().await;
    let client = partitura.client();
    let before = worker::<Sound>(&partitura).await;
    let (waits, ended) = (client.workflow::<Broken>("waits"), client.workflow::<Broken>("ended"));
    for handle in [&waits, &ended] {
        soon(handle.start(()).confirmed()).await.expect("started");
    }
    soon(ended.terminate("enough").confirmed().into_future()).await.expect("ended");
    before.stop().await.expect("stopped");
    soon(client.pause(&Pausable::workflow::<Broken>(), "a fault was found")).await.expect("paused");

    let broken = worker::<Broken>(&partitura).await;
    let described = soon(waits.describe()).await.expect("described");
    assert_eq!(described.status, Status::Running);
    for handle in [&waits, &ended] {
        match soon(handle.query(BrokenQuery::is_sound())).await {
            Err(ClientError::Refused(reason)) => assert!(reason.contains("a fault was found"), "{reason}"),
            answered => panic!("{answered:?}"),
        }
    }
    assert!(tokio::time::timeout(minutes(1), waits.result()).await.is_err());
    let history = soon(waits.history()).await.expect("a history");
    assert!(!history.iter().any(|event| matches!(event.kind, EventKind::WorkflowStopped { .. })), "{history:?}");
    broken.stop().await.expect("stopped");

    // It goes on with the code that it began with, as if nothing had been asked.
    let sound = worker::<Sound>(&partitura).await;
    soon(client.resume(&Pausable::workflow::<Broken>())).await.expect("resumed");
    assert!(soon(waits.query(BrokenQuery::is_sound())).await.expect("an answer"));
    sound.stop().await.expect("stopped");
}

#[tokio::test(start_paused = true)]
async fn a_pause_says_whether_its_name_is_known() {
    let partitura = in_memory().await;
    let client = partitura.client();
    let is_known = async |what: &str| {
        let what: Pausable = what.parse().expect("a name");
        soon(client.pause(&what, "a look at it")).await.expect("paused").is_known
    };
    assert!(!is_known("workflow/Broken").await);
    let worker = worker::<Sound>(&partitura).await;
    assert!(is_known("workflow/Broken").await);
    assert!(!is_known("workflow/Borken").await);
    assert!(!is_known("service/Broken/charge").await);
    worker.stop().await.expect("stopped");
}

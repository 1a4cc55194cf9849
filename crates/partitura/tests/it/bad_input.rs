//! What does not fit gets a clear error, loses nothing, and stops nobody else.

use std::sync::atomic::{AtomicBool, Ordering};

use partitura::{ClientError, Cx, Signal, Status, WorkflowError};

use crate::support::{Oops, Waits, WaitsSignal, eventually, in_memory, soon};

#[tokio::test]
async fn an_id_that_cannot_be_used_is_refused_with_the_reason() {
    let partitura = in_memory().await;
    for id in ["", "a\0b", &"x".repeat(513)] {
        let error = partitura.client().workflow::<Waits>(id).start(()).await.expect_err("refused");
        assert!(matches!(error, ClientError::InvalidId(_)), "{error}");
        assert!(error.to_string().contains("cannot be the id"), "{error}");
    }
}

#[tokio::test]
async fn a_signal_that_does_not_fit_does_not_hold_up_the_others() {
    let partitura = in_memory().await;
    let worker = partitura.worker().workflow::<Waits>().start().await.expect("a worker");
    let waits = partitura.client().workflow::<Waits>("w");
    waits.start(()).await.expect("started");
    waits.signal(Signal::to_channel("release", &[1, 2, 3])).await.expect("sent");
    waits.signal(WaitsSignal::release("fits".into())).await.expect("sent");
    assert_eq!(soon(waits.result()).await.expect("a result"), "fits");
    worker.stop().await.expect("stopped");
}

#[tokio::test]
async fn an_unknown_query_is_refused_and_names_those_there_are() {
    let partitura = in_memory().await;
    let worker = partitura.worker().workflow::<Waits>().start().await.expect("a worker");
    let waits = partitura.client().workflow::<Waits>("w");
    waits.start(()).await.expect("started");
    let query = partitura::Query::<Waits, bool>::new("is_relased", partitura::Payload::encode(&()));
    let error = soon(waits.query(query)).await.expect_err("refused");
    assert!(error.to_string().contains("is_released"), "{error}");
    worker.stop().await.expect("stopped");
}

/// Whether the code of [`Broken`] is repaired. One test uses it.
static REPAIRED: AtomicBool = AtomicBool::new(false);

#[derive(Debug, Default)]
struct Broken {
    released: bool,
}

#[partitura::workflow]
impl Broken {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<u32, Oops> {
        cx.until(|broken: &Broken| broken.released).await?;
        assert!(REPAIRED.load(Ordering::SeqCst), "not repaired yet");
        Ok(7)
    }

    #[signal]
    fn release(&mut self) {
        self.released = true;
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_whose_code_panics_is_stopped_with_the_reason_and_goes_on_when_it_is_repaired() {
    let partitura = in_memory().await;
    let worker = partitura.worker().workflow::<Broken>().start().await.expect("a worker");
    let broken = partitura.client().workflow::<Broken>("b");
    broken.start(()).await.expect("started");
    broken.signal(BrokenSignal::release()).await.expect("sent");
    let reason = eventually(|| async {
        match broken.describe().await.ok()?.status {
            Status::Stopped { reason } => Some(reason),
            _ => None,
        }
    })
    .await;
    assert!(reason.contains("not repaired yet"), "{reason}");
    REPAIRED.store(true, Ordering::SeqCst);
    worker.stop().await.expect("stopped");
    // As after a deployment: a worker that starts tries the stopped ones.
    let worker = partitura.worker().workflow::<Broken>().start().await.expect("a worker");
    assert_eq!(soon(broken.result()).await.expect("a result"), 7);
    worker.stop().await.expect("stopped");
}

#[tokio::test]
async fn a_workflow_that_is_registered_twice_is_refused() {
    let partitura = in_memory().await;
    let twice = partitura.worker().workflow::<Waits>().workflow::<Waits>();
    let error = twice.start().await.expect_err("refused");
    assert!(error.to_string().contains("registered twice"), "{error}");
}

#[tokio::test]
async fn a_url_that_names_no_broker_is_refused_without_repeating_its_secrets() {
    let error = partitura::connect("carrier-pigeon://user:secret@host").await.expect_err("refused");
    assert!(error.to_string().contains("carrier-pigeon"), "{error}");
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[derive(Debug, Default)]
struct TakesNumber;

#[partitura::workflow]
impl TakesNumber {
    #[run]
    async fn run(_cx: Cx<Self>, number: u32) -> Result<u32, Oops> {
        Ok(number)
    }
}

/// The same workflow as an older client knew it.
#[derive(Debug, Default)]
struct TookText;

#[partitura::workflow(name = "TakesNumber")]
impl TookText {
    #[run]
    async fn run(_cx: Cx<Self>, text: String) -> Result<String, Oops> {
        Ok(text)
    }
}

#[tokio::test]
async fn an_input_of_another_type_fails_the_instance_with_the_reason() {
    let partitura = in_memory().await;
    let worker = partitura.worker().workflow::<TakesNumber>().start().await.expect("a worker");
    let old = partitura.client().workflow::<TookText>("t");
    old.start("seven".into()).await.expect("started");
    match soon(old.result()).await {
        Err(WorkflowError::Unknown(reason)) => assert!(reason.contains("TakesNumber"), "{reason}"),
        other => panic!("{other:?}"),
    }
    worker.stop().await.expect("stopped");
}

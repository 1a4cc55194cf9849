//! What a broker does not take.

use partitura::{Cx, Status, WorkflowError};

use crate::stage::Stage;
use crate::support::{Oops, eventually, soon};

#[partitura::service]
trait Large {
    async fn make(&self, bytes: usize) -> String;
    async fn take(&self, text: String) -> usize;
}

struct Larges;

impl Large for Larges {
    async fn make(&self, bytes: usize) -> String {
        "x".repeat(bytes)
    }

    async fn take(&self, text: String) -> usize {
        text.len()
    }
}

#[derive(Debug, Default)]
struct Overdoes;

#[partitura::workflow]
impl Overdoes {
    #[run]
    async fn run(cx: Cx<Self>, (sends, bytes): (bool, usize)) -> Result<String, Oops> {
        let large = cx.service::<LargeStub>();
        if sends {
            large.take("x".repeat(bytes)).await?;
        }
        let step = cx.step("large", async move { Ok::<_, Oops>("x".repeat(bytes)) });
        let step = step.await.expect_err("too large").to_string();
        Ok(format!("{step}; {}", large.make(bytes).await.expect_err("too large")))
    }
}

pub(crate) async fn what_is_too_large_for_the_broker_fails_a_task_and_stops_a_workflow_with_the_reason(stage: Stage) {
    let partitura = stage.application().await;
    let bytes = partitura.broker().capabilities().limits.payload + 1;
    let worker =
        partitura.worker().service(LargeService(Larges)).workflow::<Overdoes>().start().await.expect("a worker");
    let client = partitura.client();
    let receives = client.workflow::<Overdoes>("receives");
    receives.start((false, bytes)).await.expect("started");
    let reasons = soon(receives.result()).await.expect("a result");
    assert!(reasons.split("; ").filter(|reason| reason.contains("a payload of")).count() == 2, "{reasons}");
    let sends = client.workflow::<Overdoes>("sends");
    sends.start((true, bytes)).await.expect("started");
    let reason = eventually(|| async {
        match sends.describe().await.ok()?.status {
            Status::Stopped { reason } => Some(reason),
            _ => None,
        }
    })
    .await;
    assert!(reason.contains("a payload of"), "{reason}");
    sends.terminate("hopeless").await.expect("sent");
    assert!(matches!(soon(sends.result()).await, Err(WorkflowError::Terminated(_))));
    worker.stop().await.expect("stopped");
    // Nothing of it is left that would keep a worker from starting.
    let worker = partitura.worker().workflow::<Overdoes>().start().await.expect("a worker");
    worker.stop().await.expect("stopped");
}

//! Messages that a broker does not take.

use partitura::{ClientError, Cx, Signal, millis};

use crate::stage::Stage;
use crate::support::{Oops, soon};

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
    async fn run(cx: Cx<Self>, bytes: usize) -> Result<String, Oops> {
        let large = cx.service::<LargeStub>();
        let sent = large.take("x".repeat(bytes)).await.expect_err("too large").to_string();
        let step = cx.step("large", async move { Ok::<_, Oops>("x".repeat(bytes)) });
        let step = step.await.expect_err("too large").to_string();
        let child = cx.child::<Returns>("large").run(bytes).await.expect_err("too large").to_string();
        let grandchild = cx.child::<Takes>("larger").run("x".repeat(bytes)).await.expect_err("too large").to_string();
        let made = large.make(bytes).await.expect_err("too large").to_string();
        Ok([sent, step, child, grandchild, made].join("; "))
    }
}

/// Its outcome is large.
#[derive(Debug, Default)]
struct Returns;

#[partitura::workflow]
impl Returns {
    #[run]
    async fn run(_cx: Cx<Self>, bytes: usize) -> Result<String, Oops> {
        Ok("x".repeat(bytes))
    }
}

#[derive(Debug, Default)]
struct Takes;

#[partitura::workflow]
impl Takes {
    #[run]
    async fn run(_cx: Cx<Self>, text: String) -> Result<usize, Oops> {
        Ok(text.len())
    }
}

/// Sends what it does not wait for.
#[derive(Debug, Default)]
struct Shouts;

#[partitura::workflow]
impl Shouts {
    #[run]
    async fn run(cx: Cx<Self>, bytes: usize) -> Result<(String, String), Oops> {
        let text = "x".repeat(bytes);
        let signal = cx.signal("large", Signal::<Returns>::to_channel("louder", &text)).expect_err("too large");
        let child = cx.child::<Takes>("largest").detach(text).expect_err("too large");
        // Its code goes on.
        cx.sleep(millis(10)).await?;
        Ok((signal.to_string(), child.to_string()))
    }
}

pub(crate) async fn what_is_too_large_for_the_broker_fails_tasks_and_children_with_the_reason(stage: Stage) {
    let partitura = stage.application().await;
    let bytes = partitura.broker().capabilities().limits.payload + 1;
    let worker = partitura.worker().service(LargeService(Larges)).workflow::<Overdoes>();
    let worker = worker.workflow::<Returns>().workflow::<Takes>().start().await.expect("a worker");
    let client = partitura.client();
    let overdoes = client.workflow::<Overdoes>("o");
    overdoes.start(bytes).await.expect("started");
    let reasons = soon(overdoes.result()).await.expect("a result");
    assert!(reasons.split("; ").filter(|reason| reason.contains("a payload of")).count() == 5, "{reasons}");
    // The result of a child is there for every caller that asks for it.
    assert_eq!(soon(client.workflow::<Returns>("large").result()).await.expect("a result").len(), bytes);
    let refused = client.workflow::<Takes>("mine").start("x".repeat(bytes)).await;
    assert!(matches!(refused, Err(ClientError::TooLarge { bytes: size, .. }) if size > bytes), "{refused:?}");
    worker.stop().await.expect("stopped");
}

pub(crate) async fn what_a_workflow_sends_and_is_too_large_is_refused_to_its_code(stage: Stage) {
    let partitura = stage.application().await;
    // Its JSON has two quotes, and some bytes of a message are for the engine.
    let limit = partitura.broker().capabilities().limits.payload;
    let worker = partitura.worker().workflow::<Shouts>().start().await.expect("a worker");
    for (id, bytes) in [("s", limit - 2), ("t", limit + 1)] {
        let shouts = partitura.client().workflow::<Shouts>(id);
        shouts.start(bytes).await.expect("started");
        let (signal, child) = soon(shouts.result()).await.expect("a result");
        assert!(signal.starts_with("signal louder to Returns/large could not be sent: a payload of"), "{signal}");
        assert!(child.starts_with("the input of Takes/largest could not be sent: a payload of"), "{child}");
        let history = soon(shouts.history()).await.expect("a history");
        assert_eq!(history.iter().filter(|event| event.to_string().starts_with("SendRefused")).count(), 2);
    }
    worker.stop().await.expect("stopped");
}

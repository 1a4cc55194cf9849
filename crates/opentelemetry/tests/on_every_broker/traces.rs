//! A checkout, whose trace survives a retry, a timer, a child and a restart.

use std::sync::atomic::{AtomicU32, Ordering};

use opentelemetry::trace::{SpanKind, Status};
use partitura::{Cancelled, ChildError, Cx, Partitura, Retry, RunningWorker, TaskError, millis};
use tracing::Instrument;

use crate::backend::Backend;
use crate::exported::{Exported, attribute};

#[partitura::service]
trait Payments {
    async fn charge(&self, order: String) -> String;
}

/// The first attempt fails.
struct Acquirer(AtomicU32);

impl Payments for Acquirer {
    async fn charge(&self, order: String) -> String {
        tracing::info!("charging");
        assert!(self.0.fetch_add(1, Ordering::Relaxed) > 0, "the bank is down");
        format!("receipt of {order}")
    }
}

#[derive(Default)]
struct Ship;

#[partitura::workflow]
impl Ship {
    #[run]
    async fn run(_cx: Cx<Self>, order: String) -> Result<String, Cancelled> {
        Ok(format!("parcel of {order}"))
    }
}

#[derive(Default)]
struct Checkout {
    packed: bool,
}

#[derive(Debug, serde::Serialize, serde::Deserialize, thiserror::Error)]
#[error("{0}")]
struct Failed(String);

impl From<TaskError<partitura::Never>> for Failed {
    fn from(error: TaskError<partitura::Never>) -> Self {
        Self(error.to_string())
    }
}

impl From<ChildError<Cancelled>> for Failed {
    fn from(error: ChildError<Cancelled>) -> Self {
        Self(error.to_string())
    }
}

impl From<Cancelled> for Failed {
    fn from(error: Cancelled) -> Self {
        Self(error.to_string())
    }
}

#[partitura::workflow]
impl Checkout {
    #[run]
    async fn run(cx: Cx<Self>, order: String) -> Result<String, Failed> {
        tracing::info!("checking out");
        let retry = Retry::fixed(millis(1)).max_attempts(3);
        cx.service::<PaymentsStub>().charge(order.clone()).retry(retry).await?;
        cx.sleep(millis(5)).await?;
        cx.until(|checkout: &Self| checkout.packed).await?;
        Ok(cx.child::<Ship>("parcel").run(order).await?)
    }

    #[signal]
    fn packed(&mut self) {
        self.packed = true;
    }
}

/// A process: a connection, and a worker of all.
async fn process(backend: &Backend, banks: u32) -> (Partitura, RunningWorker) {
    let partitura = backend.connect().await;
    let worker = partitura.worker().service(PaymentsService(Acquirer(AtomicU32::new(banks))));
    let worker = worker.workflow::<Checkout>().workflow::<Ship>().start().await.expect("a worker");
    (partitura, worker)
}

pub(crate) async fn the_trace_of_a_checkout_survives_a_retry_a_timer_a_child_and_a_restart(backend: &Backend) {
    let exported = Exported::default();
    let _listening = exported.listen();
    let (partitura, worker) = process(backend, 0).await;
    let checkout = partitura.client().workflow::<Checkout>("order-42");
    checkout.start("chair".to_owned()).into_future().instrument(tracing::info_span!("request")).await.expect("started");
    let [topic, tasks, ships] = ["workflow.Checkout.commands", "service.Payments.tasks", "workflow.Ship.commands"]
        .map(|name| backend.topic(name));
    let commands = format!("process {topic}");
    // The start, the result of the task, and the timer.
    until(|| exported.named(&commands).len() == 3).await;
    worker.stop().await.expect("stopped");
    partitura.close().await.expect("closed");
    drop(partitura);

    let (partitura, worker) = process(backend, 1).await;
    let checkout = partitura.client().workflow::<Checkout>("order-42");
    checkout.signal(CheckoutSignal::packed()).await.expect("sent");
    assert_eq!(checkout.result().await.expect("a result"), "parcel of chair");
    worker.stop().await.expect("stopped");

    let request = &exported.named("request")[0];
    let send = &exported.named(&format!("send {topic}"))[0];
    assert_eq!((send.parent_span_id, send.span_kind.clone()), (request.span_context.span_id(), SpanKind::Producer));
    let trace = request.span_context.trace_id();
    let ours = exported.all().into_iter().filter(|span| span.name.starts_with("process "));
    assert!(ours.clone().count() >= 7 && ours.clone().all(|span| span.span_context.trace_id() == trace));

    let turns = exported.named(&commands);
    assert_eq!(turns.len(), 5, "start, task, timer, signal, child");
    for turn in &turns {
        assert_eq!((turn.parent_span_id, turn.span_kind.clone()), (send.span_context.span_id(), SpanKind::Consumer));
        assert_eq!(attribute(turn, "messaging.destination.name").as_deref(), Some(&*topic));
        assert_eq!(attribute(turn, "partitura.id").as_deref(), Some("order-42"));
    }
    let attempts = exported.named(&format!("process {tasks}"));
    assert_eq!(attempts.len(), 2);
    assert!(matches!(attempts[0].status, Status::Error { .. }) && attempts[1].status == Status::Unset);
    assert_eq!(attribute(&attempts[0], "error.type").as_deref(), Some("panicked"));
    let asked_in = turns[0].span_context.span_id();
    assert!(attempts.iter().all(|attempt| attempt.parent_span_id == asked_in));
    // The turn that takes a result is linked to the attempt that gave it.
    let linked: Vec<_> = turns[1].links.iter().map(|link| link.span_context.span_id()).collect();
    assert_eq!(linked, [attempts[1].span_context.span_id()]);
    let child = &exported.named(&format!("process {ships}"))[0];
    assert_eq!(child.parent_span_id, turns[3].span_context.span_id());
    // The code ran again in the second process, and has logged nothing a second time.
    let logged = |what: &str| {
        exported.all().iter().flat_map(|span| span.events.iter().cloned()).filter(|event| event.name == what).count()
    };
    assert_eq!((logged("checking out"), logged("charging")), (1, 2));
}

/// Waits until something holds that this thread brings about.
async fn until(mut holds: impl FnMut() -> bool) {
    let waited = async {
        while !holds() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), waited).await.expect("it hangs");
}

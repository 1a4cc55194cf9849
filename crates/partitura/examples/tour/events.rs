//! A hook: what happens to tasks and workflows is published as CloudEvents, for anybody who subscribes.

use partitura::events::{CloudEvent, TaskEvent};
use partitura::{Cx, Never, Partitura, TaskError};
use tokio::sync::mpsc;

use crate::said::Said;

#[partitura::service]
trait Payments {
    async fn charge(&self, order: String);
}

struct Acquirer;

impl Payments for Acquirer {
    async fn charge(&self, _order: String) {}
}

#[derive(Default)]
struct Checkout;

#[partitura::workflow]
impl Checkout {
    #[run]
    async fn run(cx: Cx<Self>, order: String) -> Result<(), TaskError<Never>> {
        cx.service::<PaymentsStub>().charge(order).await
    }
}

pub(crate) async fn run(partitura: &Partitura) -> Said {
    let (seen, mut audit) = mpsc::unbounded_channel();
    // "audit" is a durable subscription: it gets what happens while nobody listens, too.
    let charges = partitura.events().tasks::<PaymentsStub>("audit").await?;
    let auditing = charges.process(move |event: CloudEvent<TaskEvent>| {
        let seen = seen.clone();
        async move { seen.send(format!("{} {}", event.kind, event.data.method)) } // an error is tried again
    });
    let auditing = tokio::spawn(auditing.run_until(std::future::pending::<()>()));

    let worker = partitura.worker().service(PaymentsService(Acquirer)).workflow::<Checkout>().start().await?;
    let checkout = partitura.client().workflow::<Checkout>("order-42");
    checkout.start("order-42".to_owned()).await?;
    checkout.result().await?;
    let (started, completed) = (audit.recv().await, audit.recv().await);
    worker.stop().await?;
    auditing.abort();
    Ok([started, completed].into_iter().flatten().collect::<Vec<_>>().join(", "))
}

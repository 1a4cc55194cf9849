//! The program of the README: an order that waits to be packed, and is refunded if it is not.

use partitura::{Cancelled, Cx, Retry, TaskError, days, select};
use serde::{Deserialize, Serialize};

#[partitura::service] // a plain trait; the macro makes the stub that workflows call
trait Payments {
    async fn charge(&self, order: String, cents: u64) -> Result<String, Declined>;
    async fn refund(&self, receipt: String) -> Result<(), Declined>;
}

#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
#[error("the card was declined")]
struct Declined;

struct Acquirer; // a plain implementation, in this process or in another one

impl Payments for Acquirer {
    async fn charge(&self, order: String, cents: u64) -> Result<String, Declined> {
        println!("charging {cents} cents for {order}");
        Ok(format!("receipt of {order}"))
    }

    async fn refund(&self, receipt: String) -> Result<(), Declined> {
        println!("refunding the {receipt}");
        Ok(())
    }
}

#[derive(Default)]
struct Checkout {
    packed: bool,
}

#[partitura::workflow]
impl Checkout {
    #[run] // runs across crashes, deployments and days of waiting
    async fn run(cx: Cx<Self>, order: String) -> Result<String, NotDelivered> {
        let payments = cx.service::<PaymentsStub>();
        let mut saga = cx.saga();
        let receipt = payments.charge(order, 4_200).retry(Retry::exponential().max_attempts(5)).await?;
        saga.on_failure(payments.refund(receipt.clone())); // runs only if the workflow fails

        select! {
            packed = cx.until(|checkout: &Checkout| checkout.packed) => packed?,
            _ = cx.sleep(days(3)) => return saga.fail(NotDelivered::NeverPacked).await,
        }
        Ok(receipt)
    }

    #[signal]
    fn packed(&mut self) {
        self.packed = true;
    }
}

#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
enum NotDelivered {
    #[error("not packed within three days")]
    NeverPacked,
    #[error("payment: {0}")]
    Payment(#[from] TaskError<Declined>),
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or("embedded:./data".to_owned()); // or nats://…, kafka://…
    let partitura = partitura::connect(&url).await?;
    let worker = partitura.worker().service(PaymentsService(Acquirer)).workflow::<Checkout>().start().await?;

    let checkout = partitura.client().workflow::<Checkout>("order-42");
    checkout.start("order-42".to_owned()).await?; // starting twice is starting once
    checkout.signal(CheckoutSignal::packed()).await?;
    println!("done: {}", checkout.result().await?);

    worker.stop().await?;
    Ok(())
}

#[cfg(test)]
#[path = "order/tests.rs"]
mod tests;

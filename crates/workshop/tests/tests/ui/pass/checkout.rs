//! The code that users should be able to write, with `partitura` and `serde` as the only dependencies.
#![deny(warnings, missing_docs, unreachable_pub)]

use partitura::{Cancelled, ChildError, Cx, Retry, TaskError, days, select};
use serde::{Deserialize, Serialize};

/// An order's id.
pub type OrderId = u64;

/// The error of payments.
#[derive(Debug, Serialize, Deserialize)]
pub struct Declined;

/// Money.
#[partitura::service]
#[limit(per = "order", at_most = 2)]
pub trait Payments {
    /// Takes it.
    #[limit(at_most = 20, per_second = 10)]
    #[limit(per = "amount", per_second = 0.5)]
    #[task(retry_if = |declined| matches!(declined, Declined), no_timeout)]
    async fn charge(&self, order: OrderId, amount: u64) -> Result<String, Declined>;
    /// Gives it back.
    async fn refund(&self, receipt: String) -> Result<(), Declined>;
    /// Says what many are worth.
    #[batch(max = 50, within_ms = 5, per = "receipts")]
    #[task(retry_if = |_| true)]
    async fn value(&self, receipts: Vec<String>) -> Vec<Result<u64, Declined>>;
    /// Forgets many.
    #[batch(max = 50, within_ms = 5)]
    async fn forget(&self, receipts: Vec<String>) -> Vec<()>;
}

struct Acquirer;

impl Payments for Acquirer {
    async fn charge(&self, order: OrderId, amount: u64) -> Result<String, Declined> {
        Ok(format!("{order} {amount}"))
    }

    async fn refund(&self, _receipt: String) -> Result<(), Declined> {
        Err(Declined)
    }

    async fn value(&self, receipts: Vec<String>) -> Vec<Result<u64, Declined>> {
        receipts.iter().map(|_| Ok(1)).collect()
    }

    async fn forget(&self, receipts: Vec<String>) -> Vec<()> {
        vec![(); receipts.len()]
    }
}

/// An order.
#[derive(Debug, Serialize, Deserialize)]
pub struct Order {
    id: OrderId,
    total: u64,
    address: String,
}

/// Why it came to nothing.
#[derive(Debug, Serialize, Deserialize)]
pub enum CheckoutError {
    /// The payment failed.
    Payment(TaskError<Declined>),
    /// The delivery failed.
    Delivery(ChildError<Cancelled>),
    /// Nobody packed it.
    NeverPacked,
}

impl From<TaskError<Declined>> for CheckoutError {
    fn from(error: TaskError<Declined>) -> Self {
        Self::Payment(error)
    }
}

impl From<ChildError<Cancelled>> for CheckoutError {
    fn from(error: ChildError<Cancelled>) -> Self {
        Self::Delivery(error)
    }
}

/// Brings it.
#[derive(Default)]
pub struct Delivery;

#[partitura::workflow]
impl Delivery {
    #[run]
    async fn run(cx: Cx<Self>, _address: String) -> Result<(), Cancelled> {
        cx.sleep(days(1)).await
    }
}

/// Sells it.
#[derive(Default)]
pub struct Checkout {
    packed: bool,
}

#[partitura::workflow]
impl Checkout {
    #[run]
    async fn run(cx: Cx<Self>, order: Order) -> Result<String, CheckoutError> {
        let payments = cx.service::<PaymentsStub>();
        let mut saga = cx.saga();

        let receipt = payments.charge(order.id, order.total).retry(Retry::exponential().max_attempts(5)).await?;
        saga.on_failure(payments.refund(receipt.clone()));

        select! {
            _ = cx.until(|checkout| checkout.packed) => {}
            _ = cx.sleep(days(3)) => return saga.fail(CheckoutError::NeverPacked).await,
        }
        cx.child::<Delivery>(order.id).run(order.address).await?;
        Ok(receipt)
    }

    #[signal]
    fn packed(&mut self) {
        self.packed = true
    }

    #[query]
    fn is_packed(&self) -> bool {
        self.packed
    }
}

mod private {
    use partitura::{Cx, Never};

    #[derive(Default)]
    struct Hidden;

    #[partitura::workflow]
    impl Hidden {
        #[run]
        async fn run(_cx: Cx<Self>) -> Result<(), Never> {
            Ok(())
        }

        #[signal]
        fn poke(&mut self) {}
    }

    #[partitura::service]
    trait Secrets {
        async fn whisper(&self) -> String;
    }
}

fn main() {
    let service: &dyn partitura::Service = &PaymentsService(Acquirer);
    assert_eq!(service.methods().len(), 4);
    assert_eq!(CheckoutSignal::packed().name(), "packed");
    assert_eq!(CheckoutQuery::is_packed().name(), "is_packed");
    let _ = partitura::history::Definition::for_workflow::<Checkout>();
}

//! The workload of `partitura dev`, so that the page has something to show: orders of a shop, some of which need
//! somebody.

use std::sync::Arc;
use std::time::Duration;

use partitura::{Cancelled, ChildError, Cx, Error, Never, Partitura, Retry, RunningWorker, TaskError, hours, seconds};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum Declined {
    #[error("the card was declined")]
    Card,
    #[error("the bank does not answer")]
    Unavailable,
}

#[partitura::service]
pub(crate) trait Payments {
    #[task(retry_if = |error| matches!(error, Declined::Unavailable))]
    async fn charge(&self, order: String, cents: u64) -> Result<String, Declined>;
    async fn refund(&self, receipt: String) -> Result<(), Declined>;
}

#[partitura::service]
pub(crate) trait Carrier {
    async fn pick_up(&self, parcel: String) -> String;
}

/// A service that no worker of the demonstration runs.
#[partitura::service]
pub(crate) trait Customs {
    async fn declare(&self, parcel: String) -> String;
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) customer: String,
    pub(crate) items: Vec<String>,
    pub(crate) cents: u64,
}

struct Bank;

impl Payments for Bank {
    async fn charge(&self, order: String, cents: u64) -> Result<String, Declined> {
        tokio::time::sleep(Duration::from_millis(40 + cents % 190)).await;
        match cents % 10 {
            7 => Err(Declined::Card),
            8 if cents > 2_000 => Err(Declined::Unavailable),
            _ => Ok(format!("receipt-{order}")),
        }
    }

    async fn refund(&self, _receipt: String) -> Result<(), Declined> {
        tokio::time::sleep(Duration::from_millis(60)).await;
        Ok(())
    }
}

struct Van;

impl Carrier for Van {
    async fn pick_up(&self, parcel: String) -> String {
        tokio::time::sleep(Duration::from_millis(320)).await;
        format!("tracking-{parcel}")
    }
}

#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum CheckoutError {
    #[error("not packed within two hours")]
    NeverPacked,
    #[error("payment: {0}")]
    Payment(#[from] TaskError<Declined>),
    #[error("delivery: {0}")]
    Delivery(#[from] ChildError<DeliveryError>),
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

#[derive(Default)]
pub(crate) struct Checkout {
    packed: bool,
}

#[partitura::workflow]
impl Checkout {
    #[run]
    async fn run(cx: Cx<Self>, order: Order) -> Result<String, CheckoutError> {
        let payments = cx.service::<PaymentsStub>();
        let mut saga = cx.saga();
        let retry = Retry::exponential().initial(Duration::from_millis(400)).max_attempts(3);
        let receipt = payments.charge(cx.id().to_owned(), order.cents).retry(retry).await?;
        saga.on_failure(payments.refund(receipt.clone()));
        // A sign that the code has a fault: the page shows who is stopped, and why.
        assert!(order.items.len() < 5, "an order of {} items has no room in a parcel", order.items.len());
        partitura::select! {
            packed = cx.until(|checkout: &Self| checkout.packed) => packed?,
            _ = cx.sleep(hours(2)) => return saga.fail(CheckoutError::NeverPacked).await,
        }
        let tracking = cx.child::<Delivery>(cx.id()).run(order.customer).await?;
        Ok(format!("{receipt}, {tracking}"))
    }

    #[signal]
    fn packed(&mut self) {
        self.packed = true;
    }
}

#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum DeliveryError {
    #[error("carrier: {0}")]
    Task(#[from] TaskError<Never>),
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

#[derive(Default)]
pub(crate) struct Delivery;

#[partitura::workflow]
impl Delivery {
    #[run]
    async fn run(cx: Cx<Self>, customer: String) -> Result<String, DeliveryError> {
        let route: String = cx.step("route", async { Ok::<_, Never>("north".to_owned()) }).await.unwrap_or_default();
        if customer == "Zoë" {
            cx.service::<CustomsStub>().declare(customer).await?;
        }
        let tracking = cx.service::<CarrierStub>().pick_up(format!("{}-{route}", cx.id())).await?;
        cx.sleep(seconds(3)).await?;
        Ok(tracking)
    }
}

/// The problem with the demonstration is no news on the terminal.
pub(crate) fn expect_its_fault() {
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.payload_as_str().is_some_and(|text| text.contains("has no room in a parcel")) {
            others(panic);
        }
    }));
}

/// Starts the worker of the demonstration.
pub(crate) async fn worker(partitura: &Partitura) -> Result<RunningWorker, Error> {
    let worker = partitura.worker().build_id("demo-1").service(PaymentsService(Bank)).service(CarrierService(Van));
    worker.workflow::<Checkout>().workflow::<Delivery>().start().await
}

const CUSTOMERS: [&str; 6] = ["Ada", "Grace", "Edsger", "Barbara", "Zoë", "Tony"];
const ITEMS: [&str; 6] = ["tea", "oolong", "kettle", "cups", "scale", "tin"];

/// Starts an order now and then, and packs most, for as long as it is polled.
pub(crate) async fn customers(partitura: Arc<Partitura>, from: u64) {
    for number in from.. {
        let order = order(number);
        let id = format!("order-{number}");
        let checkout = partitura.client().workflow::<Checkout>(&id);
        let started = checkout.start(order).tag(CUSTOMERS[at(number, 6)]).await;
        if started.is_ok() && number % 3 != 2 {
            tokio::time::sleep(Duration::from_millis(900)).await;
            // An instance that has ended needs no signal.
            drop(checkout.signal(CheckoutSignal::packed()).await);
        }
        let pause = if number < 40 { Duration::from_millis(60) } else { Duration::from_secs(5) };
        tokio::time::sleep(pause).await;
    }
}

fn order(number: u64) -> Order {
    let count = if number % 13 == 5 { 5 } else { 1 + at(number, 4) };
    let items = (0..count).map(|item| ITEMS[(at(number, 6) + item) % 6].to_owned()).collect();
    Order { customer: CUSTOMERS[at(number, 6)].to_owned(), items, cents: 490 + number * 137 % 4_000 }
}

fn at(number: u64, of: u64) -> usize {
    usize::try_from(number % of).unwrap_or(0)
}

//! The shop's counter and its warehouse: what starts checkouts, and what signals to them.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use partitura::{Client, ClientError, WorkflowError, WorkflowHandle, millis, seconds};
use tokio::task::JoinSet;

use crate::chance;
use crate::orders::{Order, OrderId};
use crate::services::payments::Receipt;
use crate::workflow::{Checkout, CheckoutError, CheckoutSignal};

/// The outcome of an order.
#[derive(Debug)]
pub struct Settled {
    /// Its place among the orders.
    pub index: usize,
    pub order: OrderId,
    /// `Client` errors say that this could not be learned.
    pub outcome: Result<Receipt, WorkflowError<CheckoutError>>,
    /// From its start to its end, as far as this run saw it.
    pub took: Duration,
}

/// Has all orders carried out, up to `in_flight` at a time.
///
/// Orders that an earlier run began, or finished, are taken up where they are: starting is idempotent by id.
pub async fn serve(client: Client, orders: &[Order], in_flight: NonZeroUsize, mut settled: impl FnMut(Settled)) {
    let mut waiting = orders.iter().enumerate();
    let mut under_way = JoinSet::new();
    loop {
        for (index, order) in waiting.by_ref().take(in_flight.get() - under_way.len()) {
            let checkout = client.workflow::<Checkout>(order.id.to_string());
            under_way.spawn(check_out(checkout, index, order.clone()));
        }
        match under_way.join_next().await {
            Some(Ok(one)) => settled(one),
            Some(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
            None => return,
        }
    }
}

async fn check_out(checkout: WorkflowHandle<Checkout>, index: usize, order: Order) -> Settled {
    let began = Instant::now();
    let outcome = loop {
        match carry_out(&checkout, &order).await {
            // The broker is away for long. An order that was started before is taken up where it is.
            Err(WorkflowError::Client(ClientError::Broker(error))) if error.is_retryable() => {
                eprintln!("order {}: {error}; trying again", order.id);
                tokio::time::sleep(seconds(1)).await;
            }
            outcome => break outcome,
        }
    };
    Settled { index, order: order.id, outcome, took: began.elapsed() }
}

async fn carry_out(
    checkout: &WorkflowHandle<Checkout>,
    order: &Order,
) -> Result<Receipt, WorkflowError<CheckoutError>> {
    checkout.start(order.clone()).await?;
    tokio::select! {
        outcome = checkout.result() => outcome,
        // Packed: this branch is done, the other goes on.
        Err(error) = pack(checkout, order) => Err(error.into()),
    }
}

/// The warehouse: packs everything that fits through its door, and says so.
///
/// After a restart it packs again what may be packed already; a second signal does no harm.
async fn pack(checkout: &WorkflowHandle<Checkout>, order: &Order) -> Result<(), ClientError> {
    if order.item == "grand piano" {
        return Ok(());
    }
    tokio::time::sleep(millis(5 + chance::roll(("packing", &order.id)) % 20)).await;
    checkout.signal(CheckoutSignal::packed()).await
}

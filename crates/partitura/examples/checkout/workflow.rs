//! The business process. This is what Partitura is for; everything else in this example is ordinary Rust.

use partitura::{Cancelled, ChildError, Cx, TaskError, select};
use serde::{Deserialize, Serialize};

use crate::orders::Order;
use crate::services::inventory::{InventoryStub, StockError};
use crate::services::notifications::{Letter, NotificationError, NotificationsStub};
use crate::services::payments::{PaymentError, PaymentsStub, Receipt};
use crate::services::shipping::{Parcel, ShippingError, ShippingStub};

/// From an order to a receipt, and a parcel on its way.
#[derive(Debug, Default)]
pub struct Checkout {
    packed: bool,
}

#[partitura::workflow]
impl Checkout {
    #[run]
    async fn run(cx: Cx<Self>, order: Order) -> Result<Receipt, CheckoutError> {
        let inventory = cx.service::<InventoryStub>();
        let payments = cx.service::<PaymentsStub>();
        let notifications = cx.service::<NotificationsStub>();

        // Everything that was done is undone in reverse when this function returns an error. First added, last run: the
        // apology.
        let mut saga = cx.saga();
        saga.on_failure(notifications.send(order.id.clone(), Letter::Apology));

        let reservation = inventory.reserve(order.id.clone(), order.item.clone(), order.units).await?;
        saga.on_failure(inventory.release(reservation));

        let receipt = payments.charge(order.id.clone(), order.card.clone(), order.total).await?;
        saga.on_failure(payments.refund(receipt.clone()));

        select! {
            packed = cx.until(|checkout| checkout.packed) => packed?,
            _ = cx.sleep(order.time_to_pack()) => return Err(CheckoutError::NeverPacked),
        }

        let parcel = cx.child::<Delivery>(&order.id).run(order.clone()).await?;

        // It is on its way: from here on nothing is undone.
        saga.complete();
        notifications.send(order.id, Letter::OnItsWay(parcel)).await?;
        Ok(receipt)
    }

    /// The warehouse says so.
    #[signal]
    fn packed(&mut self) {
        self.packed = true;
    }

    #[query]
    fn is_packed(&self) -> bool {
        self.packed
    }
}

/// Why an order came to nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub enum CheckoutError {
    #[error("stock: {0}")]
    Stock(#[from] TaskError<StockError>),
    #[error("payment: {0}")]
    Payment(#[from] TaskError<PaymentError>),
    #[error("it was not packed in time")]
    NeverPacked,
    #[error("delivery: {0}")]
    Delivery(#[from] ChildError<DeliveryError>),
    #[error("notification: {0}")]
    Notification(#[from] TaskError<NotificationError>),
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl CheckoutError {
    /// The failures that the shop expects now and then; `None` for those that should not happen.
    pub fn expected(&self) -> Option<&'static str> {
        match self {
            Self::Stock(TaskError::Failed(StockError::OutOfStock { .. })) => Some("out of stock"),
            Self::Payment(TaskError::Failed(PaymentError::Declined)) => Some("card declined"),
            Self::NeverPacked => Some("never packed"),
            Self::Delivery(ChildError::Failed(DeliveryError::Shipping(TaskError::Failed(
                ShippingError::NobodyGoesThere { .. },
            )))) => Some("nobody delivers there"),
            _ => None,
        }
    }
}

/// From a packed order to a parcel on its way: a workflow of its own, with the order's id.
#[derive(Debug, Default)]
pub struct Delivery;

#[partitura::workflow]
impl Delivery {
    #[run]
    async fn run(cx: Cx<Self>, order: Order) -> Result<Parcel, DeliveryError> {
        Ok(cx.service::<ShippingStub>().book(order.id, order.address).await?)
    }
}

/// Why a parcel is not on its way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub enum DeliveryError {
    #[error("{0}")]
    Shipping(#[from] TaskError<ShippingError>),
}

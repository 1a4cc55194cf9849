//! A workflow and the service that it calls.

use partitura::{Cancelled, Cx, Never, TaskError, days, select};
use serde::{Deserialize, Serialize};

/// The work of another system: a plain trait with a plain implementation.
#[partitura::service]
pub trait Payments {
    async fn charge(&self, order: String, cents: u64) -> String;
    async fn refund(&self, receipt: String);
}

/// Put your own system here.
pub struct Till;

impl Payments for Till {
    async fn charge(&self, order: String, cents: u64) -> String {
        format!("{cents} cents for {order}")
    }

    async fn refund(&self, receipt: String) {
        println!("refunded: {receipt}");
    }
}

#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
pub enum OrderError {
    #[error("not packed within three days")]
    NeverPacked,
    #[error("payment: {0}")]
    Payment(#[from] TaskError<Never>),
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// The process: it survives crashes, deployments and days of waiting.
#[derive(Default)]
pub struct Order {
    packed: bool,
}

#[partitura::workflow]
impl Order {
    #[run]
    async fn run(cx: Cx<Self>, cents: u64) -> Result<String, OrderError> {
        let payments = cx.service::<PaymentsStub>();
        let mut saga = cx.saga();
        let receipt = payments.charge(cx.id().to_owned(), cents).await?;
        saga.on_failure(payments.refund(receipt.clone()));
        select! {
            packed = cx.until(|order: &Self| order.packed) => packed?,
            _ = cx.sleep(days(3)) => return saga.fail(OrderError::NeverPacked).await,
        }
        Ok(receipt)
    }

    #[signal]
    fn packed(&mut self) {
        self.packed = true;
    }
}

#[cfg(test)]
mod tests {
    use partitura::WorkflowError;
    use partitura::testing::TestEnv;

    use super::*;

    #[tokio::test]
    async fn an_order_that_is_never_packed_fails_after_three_days() {
        let env = TestEnv::new().service(PaymentsService(Till)).workflow::<Order>();
        let order = env.start::<Order>("order-1", 1_200).await;
        assert!(matches!(order.result().await, Err(WorkflowError::Failed(OrderError::NeverPacked))));
    }
}

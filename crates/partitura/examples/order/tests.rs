//! The test that the README shows is a test of its program.

use partitura::WorkflowError;
use partitura::testing::TestEnv;

use super::{Checkout, Declined, NotDelivered, Payments, PaymentsService};

struct FakePayments;

impl Payments for FakePayments {
    async fn charge(&self, order: String, _cents: u64) -> Result<String, Declined> {
        Ok(format!("receipt of {order}"))
    }

    async fn refund(&self, _receipt: String) -> Result<(), Declined> {
        Ok(())
    }
}

#[tokio::test]
async fn an_order_that_is_never_packed_fails_after_three_days() {
    let env = TestEnv::new().service(PaymentsService(FakePayments)).workflow::<Checkout>();
    let checkout = env.start::<Checkout>("order-42", "order-42".to_owned()).await;
    assert!(matches!(checkout.result().await, Err(WorkflowError::Failed(NotDelivered::NeverPacked))));
}

//! Messaging without workflows: typed queues, an order for each key, retries, dead letters.

use std::time::Duration;

use partitura::Partitura;
use partitura::messaging::{Envelope, Messaging, Retry};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::said::Said;

#[derive(Serialize, Deserialize)]
struct Order {
    customer: String,
    cents: u64,
}

pub(crate) async fn run(partitura: &Partitura) -> Said {
    let messaging = Messaging::over(partitura.broker().clone()).await?;
    let orders = messaging.queue::<Order>("orders").partitions(4).subscription("billing").declare().await?;
    let order = Order { customer: "ada".to_owned(), cents: 1_999 };
    orders.publish(&order).key("ada").id("order-42").await?; // durable when this returns

    let (done, mut billed) = mpsc::unbounded_channel();
    let billing = orders
        .subscribe("billing")
        .retry(Retry::fixed(Duration::from_millis(5)).max_attempts(3)) // its key waits, the others flow
        .process(move |order: Envelope<Order>| {
            let done = done.clone();
            async move {
                if order.attempt() == 1 {
                    return Err("the bank is down".to_owned());
                }
                let Order { customer, cents } = order.payload();
                let text = format!("{customer}: {cents} cents, in attempt {}", order.attempt());
                done.send(text).map_err(|error| error.to_string())
            }
        });
    let billing = tokio::spawn(billing.run_until(std::future::pending::<()>()));
    let text = billed.recv().await.ok_or("nobody bills")?;
    billing.abort();
    Ok(text)
}

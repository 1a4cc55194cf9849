//! A workflow that waits for a signal, but not for ever.

use std::time::Duration;

use partitura::{Cancelled, Cx, Partitura, hours, millis, select};

use crate::said::Said;

#[derive(Default)]
struct Payment {
    paid: bool,
}

#[partitura::workflow]
impl Payment {
    #[run]
    async fn run(cx: Cx<Self>, patience: Duration) -> Result<String, Cancelled> {
        let id = cx.id();
        select! {
            paid = cx.until(|payment: &Self| payment.paid) => {
                paid?;
                Ok(format!("{id} was paid"))
            },
            slept = cx.sleep(patience) => { // days, if need be: no process has to live that long
                slept?;
                Ok(format!("{id} was not paid in time"))
            },
        }
    }

    #[signal]
    fn pay(&mut self) {
        self.paid = true;
    }
}

pub(crate) async fn run(partitura: &Partitura) -> Said {
    let worker = partitura.worker().workflow::<Payment>().start().await?;
    let client = partitura.client();
    let (one, two) = (client.workflow::<Payment>("order-1"), client.workflow::<Payment>("order-2"));
    one.start(hours(24)).await?;
    one.signal(PaymentSignal::pay()).await?;
    two.start(millis(20)).await?;
    let said = format!("{}; {}", one.result().await?, two.result().await?);
    worker.stop().await?;
    Ok(said)
}

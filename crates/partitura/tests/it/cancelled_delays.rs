//! Delayed messages that a workflow no longer needs are taken back from the broker.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use partitura::{Cx, Partitura, days, select};
use partitura_broker::Delivery;

use crate::hooked::{Hooked, Hooks};
use crate::support::{Oops, eventually};
use crate::troubled::{Virtual, embedded};

/// Three timers and a step. One timer loses, one fires, and one is there when the workflow ends.
#[derive(Debug, Default)]
struct Packing {
    packed: bool,
}

#[partitura::workflow]
impl Packing {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<String, Oops> {
        select! {
            packed = cx.until(|packing: &Packing| packing.packed) => packed?,
            _ = cx.sleep(days(30)) => return Err(Oops::No("never packed".into())),
        }
        let weighed = cx.step("weigh", async { Ok::<u32, Oops>(7) }).await;
        let weight = weighed.map_err(|error| Oops::No(error.to_string()))?;
        let kept = cx.sleep(days(200)).start();
        cx.sleep(days(40)).await?;
        drop(kept);
        Ok(format!("{weight} kg"))
    }

    #[signal]
    fn packed(&mut self) {
        self.packed = true;
    }

    #[query]
    fn is_packed(&self) -> bool {
        self.packed
    }
}

#[tokio::test(start_paused = true)]
async fn a_timer_that_lost_a_select_or_outlived_its_workflow_is_gone_from_the_broker() {
    let (clock, delivered) = (Virtual::new(), Arc::<Delivered>::default());
    let broker = Hooked::new(embedded(&clock), delivered.clone());
    let partitura = Partitura::on(Arc::new(broker)).clock(clock).ask_again(Duration::MAX).await.expect("an engine");
    let worker = partitura.worker().workflow::<Packing>().start().await.expect("a worker");
    let packing = partitura.client().workflow::<Packing>("o-1");
    packing.start(()).timeout(days(300)).await.expect("started");
    packing.signal(PackingSignal::packed()).await.expect("sent");
    eventually(|| async { packing.query(PackingQuery::is_packed()).await.ok().filter(|packed| *packed) }).await;
    assert_eq!(packing.result().await.expect("a result"), "7 kg");
    // Whatever waits still would come by then.
    tokio::time::sleep(days(400)).await;
    let came = delivered.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let ending = |end: &str| came.iter().filter(|id| id.ends_with(end)).count();
    assert_eq!((ending(".t"), ending(".o0"), ending(".w")), (1, 0, 0), "{came:?}");
    worker.stop().await.expect("an orderly end");
}

/// Notes the ids of what is delivered.
#[derive(Debug, Default)]
struct Delivered(Mutex<Vec<String>>);

impl Hooks for Delivered {
    fn delivered(&self, delivery: &Delivery) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(delivery.message.id.to_string());
    }
}

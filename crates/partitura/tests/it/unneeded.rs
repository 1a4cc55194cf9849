//! What a workflow no longer needs is taken back from the broker.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use partitura::{Cx, Partitura, days, select};
use partitura_broker::{
    AckToken, Broker, Capabilities, Consumer, ConsumerOptions, CorrectedClock, Event, Inbox, Partition, Producer,
    ProducerOptions, Result, TopicName, Topology, Transactions,
};
use partitura_embedded::{Embedded, Options};

use crate::support::{Oops, eventually};
use crate::troubled::Virtual;

/// Three timers and a step. One timer loses, one fires, and one is there when the workflow ends.
#[derive(Debug, Default)]
struct Packing {
    packed: bool,
}

#[partitura::workflow]
impl Packing {
    #[run]
    async fn run(cx: Cx<Self>) -> std::result::Result<String, Oops> {
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
    let clock = Virtual::new();
    let embedded = Embedded::memory(Options::default().clock(clock.clone())).expect("a broker in memory");
    let delivered = Arc::new(Mutex::new(Vec::new()));
    let broker = Arc::new(Watched { inner: Arc::new(embedded), delivered: delivered.clone() });
    let partitura = Partitura::on(broker).clock(clock).ask_again(Duration::MAX).await.expect("an engine");
    let worker = partitura.worker().workflow::<Packing>().start().await.expect("a worker");
    let packing = partitura.client().workflow::<Packing>("o-1");
    packing.start(()).await.expect("started");
    packing.signal(PackingSignal::packed()).await.expect("sent");
    eventually(|| async { packing.query(PackingQuery::is_packed()).await.ok().filter(|packed| *packed) }).await;
    assert_eq!(packing.result().await.expect("a result"), "7 kg");
    // Whatever waits still would come by then.
    tokio::time::sleep(days(400)).await;
    let came = delivered.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let ending = |end: &str| came.iter().filter(|id| id.ends_with(end)).count();
    assert_eq!((ending(".t"), ending(".o0")), (1, 0), "{came:?}");
    worker.stop().await.expect("an orderly end");
}

/// Notes what is delivered.
#[derive(Debug)]
struct Watched {
    inner: Arc<dyn Broker>,
    delivered: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl Broker for Watched {
    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    fn clock(&self) -> CorrectedClock {
        self.inner.clock()
    }

    async fn declare(&self, topology: &Topology) -> Result<()> {
        self.inner.declare(topology).await
    }

    async fn producer(&self, options: ProducerOptions) -> Result<Box<dyn Producer>> {
        self.inner.producer(options).await
    }

    async fn consumer(&self, options: ConsumerOptions) -> Result<Box<dyn Consumer>> {
        let inner = self.inner.consumer(options).await?;
        Ok(Box::new(Watching { inner, delivered: self.delivered.clone() }))
    }

    async fn inbox(&self) -> Result<Box<dyn Inbox>> {
        self.inner.inbox().await
    }

    fn has_audience(&self, topic: &TopicName) -> bool {
        self.inner.has_audience(topic)
    }

    fn transactions(&self) -> Option<&dyn Transactions> {
        self.inner.transactions()
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

#[derive(Debug)]
struct Watching {
    inner: Box<dyn Consumer>,
    delivered: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl Consumer for Watching {
    async fn next(&mut self) -> Result<Event> {
        let event = self.inner.next().await?;
        if let Event::Deliveries(deliveries) = &event {
            let ids = deliveries.iter().map(|delivery| delivery.message.id.to_string());
            self.delivered.lock().unwrap_or_else(PoisonError::into_inner).extend(ids);
        }
        Ok(event)
    }

    fn settle(&mut self, tokens: &[AckToken]) {
        self.inner.settle(tokens);
    }

    async fn flush(&mut self) -> Result<()> {
        self.inner.flush().await
    }

    async fn release(&mut self, partitions: &[Partition]) -> Result<()> {
        self.inner.release(partitions).await
    }

    async fn close(self: Box<Self>) -> Result<()> {
        self.inner.close().await
    }
}

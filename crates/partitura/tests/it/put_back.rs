//! A task that a build does not know comes back to it before its own call has ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use partitura::{Cx, TaskError, seconds};
use partitura_broker::{Delivery, Message};
use tokio::sync::Notify;

use crate::between::Place;
use crate::hooked::Hooks;
use crate::interrupted::within_an_hour;

mod old {
    #[partitura::service(name = "Shop")]
    pub(crate) trait Shop {
        async fn look(&self) -> u32;
    }
}

mod new {
    #[partitura::service(name = "Shop")]
    pub(crate) trait Shop {
        async fn look(&self) -> u32;
        async fn buy(&self, pieces: u32) -> u32;
    }
}

/// Counts what it sells.
#[derive(Debug, Default, Clone)]
struct Seller(Arc<AtomicU32>);

impl old::Shop for Seller {
    async fn look(&self) -> u32 {
        0
    }
}

impl new::Shop for Seller {
    async fn look(&self) -> u32 {
        0
    }

    async fn buy(&self, pieces: u32) -> u32 {
        self.0.fetch_add(1, Ordering::SeqCst);
        pieces
    }
}

#[derive(Debug, Default)]
struct Buys;

#[partitura::workflow]
impl Buys {
    #[run]
    async fn run(cx: Cx<Self>, pieces: u32) -> Result<u32, TaskError<partitura::Never>> {
        cx.service::<new::ShopStub>().buy(pieces).await
    }
}

/// Lets the first call that puts a task back go on only once the task was delivered again.
#[derive(Debug, Default)]
struct Quick {
    put_back: AtomicU32,
    returned: Notify,
}

/// Whether it is a task that a build did not know.
fn was_tried(message: &Message) -> bool {
    message.headers.get_str("partitura-tried").is_some()
}

#[async_trait]
impl Hooks for Quick {
    async fn after_publishing(&self, sent: &[Message]) {
        if sent.iter().any(was_tried) && self.put_back.fetch_add(1, Ordering::SeqCst) == 0 {
            self.returned.notified().await;
            // The delivery's fate is decided now.
            tokio::time::sleep(seconds(1)).await;
        }
    }

    fn delivered(&self, delivery: &Delivery) {
        if was_tried(&delivery.message) {
            self.returned.notify_one();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_put_back_and_returns_at_once_is_no_copy_of_itself() {
    let (place, quick, seller) = (Place::new(), Arc::new(Quick::default()), Seller::default());
    let conducting = place.process().await.worker().workflow::<Buys>().start().await.expect("a worker");
    let before = place.builder_with(quick.clone()).await.expect("an engine");
    let before = before.worker().service(old::ShopService(seller.clone())).build_id("old");
    let before = before.start().await.expect("a worker");
    let buys = place.process().await.client().workflow::<Buys>("b");
    buys.start(3).await.expect("started");
    tokio::time::sleep(seconds(30)).await;
    // It was delivered to the old build again, and is put back again and again.
    assert!(quick.put_back.load(Ordering::SeqCst) > 1, "the task is lost: {quick:?}");
    let after = place.process().await.worker().service(new::ShopService(seller.clone())).build_id("new");
    let after = after.start().await.expect("a worker");
    assert_eq!(within_an_hour(buys.result()).await.expect("a result"), 3);
    tokio::time::sleep(seconds(60)).await;
    assert_eq!(seller.0.load(Ordering::SeqCst), 1);
    for worker in [before, after, conducting] {
        worker.stop().await.expect("stopped");
    }
}

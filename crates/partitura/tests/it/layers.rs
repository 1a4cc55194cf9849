//! Layers that do not do as they should.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;

use async_trait::async_trait;
use bytes::Bytes;
use partitura::contract::{Entry, Put, Result, ScanRange, Space, Version};
use partitura::{BrokerStore, Cx, Layer, Next, Store, TurnCall, TurnResult};

use crate::support::{Oops, TextService, TextStub, Texts, soon};

/// Lets a turn begin, and goes away in the middle of it: by leaving it, or by a panic.
#[derive(Clone, Default)]
struct Hasty(Arc<AtomicU32>);

impl Layer for Hasty {
    async fn turn(&self, _turn: &TurnCall<'_>, mut next: Next<'_, TurnResult>) -> TurnResult {
        let once = poll_fn(|context| Poll::Ready(Pin::new(&mut next).poll(context))).await;
        if let Poll::Ready(taken) = once {
            return taken;
        }
        if self.0.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) {
            return Err("it takes too long".to_owned());
        }
        // Without the noise of the hook.
        std::panic::resume_unwind(Box::new("it takes too long"));
    }
}

#[derive(Debug, Default)]
struct Dots;

#[partitura::workflow]
impl Dots {
    #[run]
    async fn run(cx: Cx<Self>, count: u32) -> std::result::Result<String, Oops> {
        let mut text = String::new();
        for _ in 0..count {
            text = cx.service::<TextStub>().dot(text).await?;
        }
        Ok(text)
    }
}

/// A store that takes its time.
#[derive(Debug)]
struct Slow(BrokerStore);

#[async_trait]
impl Store for Slow {
    async fn write(&self, groups: Vec<Vec<Put>>) -> Vec<Result<()>> {
        let written = self.0.write(groups).await;
        tokio::task::yield_now().await;
        written
    }

    async fn get(&self, space: Space, key: Bytes) -> Result<Option<(Version, Bytes)>> {
        self.0.get(space, key).await
    }

    async fn scan(&self, range: ScanRange, limit: usize) -> Result<Vec<Entry>> {
        self.0.scan(range, limit).await
    }
}

#[tokio::test]
async fn a_turn_that_a_layer_leaves_is_taken_to_its_end() {
    let store = partitura::broker("memory:").await.expect("a broker");
    let store = Arc::new(Slow(BrokerStore::new(store).expect("it has transactions")));
    let process = partitura::connect("memory:").with(|settings| settings.store(store)).await.expect("connected");
    let (texts, hasty) = (Texts::default(), Hasty::default());
    let worker = process.worker().service(TextService(texts.clone())).workflow::<Dots>().layer(hasty.clone());
    let worker = worker.start().await.expect("a worker");
    for number in 0..10 {
        let dots = process.client().workflow::<Dots>(format!("d{number}"));
        dots.start(5).await.expect("started");
        assert_eq!(soon(dots.result()).await.expect("a result"), ".....");
    }
    assert!(hasty.0.load(Ordering::SeqCst) > 10, "it has left some");
    worker.stop().await.expect("stopped");
}

//! Where nothing happens, nothing is read or written; a takeover reads what belongs to its partitions.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use partitura::{Partitura, minutes, seconds};
use partitura_broker::{Entry, Put, Result, ScanRange, Space, Version};
use partitura_engine::{BrokerStore, Store};

use crate::hooked::{Hooked, Nothing};
use crate::support::{TextService, Texts, Three, Waits, soon};
use crate::troubled::{Virtual, embedded};

/// A store that notes what is asked of it.
#[derive(Debug)]
struct Noted {
    kept: BrokerStore,
    /// Of each request what it is about.
    requests: Mutex<Vec<String>>,
}

impl Noted {
    fn note(&self, what: &str, space: Space, key: &[u8]) {
        let request = format!("{what} {space} {}", String::from_utf8_lossy(key).escape_debug());
        self.requests.lock().expect("no panic holds it").push(request);
    }

    /// The requests since this was asked last.
    fn taken(&self) -> Vec<String> {
        std::mem::take(&mut *self.requests.lock().expect("no panic holds it"))
    }
}

#[async_trait]
impl Store for Noted {
    async fn write(&self, groups: Vec<Vec<Put>>) -> Vec<Result<()>> {
        groups.iter().flatten().for_each(|put| self.note("write", put.space, &put.key));
        self.kept.write(groups).await
    }

    async fn get(&self, space: Space, key: Bytes) -> Result<Option<(Version, Bytes)>> {
        self.note("get", space, &key);
        self.kept.get(space, key).await
    }

    async fn scan(&self, range: ScanRange, limit: usize) -> Result<Vec<Entry>> {
        self.note("scan", range.space, &range.from);
        self.kept.scan(range, limit).await
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_asked_of_the_store_while_nothing_happens_and_little_when_a_worker_takes_over() {
    let clock = Virtual::new();
    let (broker, kept) = (embedded(&clock), BrokerStore::new(embedded(&clock)).expect("it keeps state"));
    let store = Arc::new(Noted { kept, requests: Mutex::default() });
    let process = async || {
        let broker = Hooked::new(broker.clone(), Arc::new(Nothing)).without_transactions();
        let builder = Partitura::on(Arc::new(broker)).store(store.clone()).clock(clock.clone());
        builder.ask_again(Duration::MAX).await.expect("an engine")
    };
    let start = async |process: &Partitura| {
        let worker = process.worker().service(TextService(Texts::default())).workflow::<Three>().workflow::<Waits>();
        worker.start().await.expect("a worker")
    };
    let first = process().await;
    let worker = start(&first).await;
    let client = first.client();
    for i in 0..200 {
        client.workflow::<Waits>(format!("w{i}")).start(()).confirmed().await.expect("started");
        let three = client.workflow::<Three>(format!("t{i}"));
        three.start("x".into()).await.expect("started");
        soon(three.result()).await.expect("a result");
    }
    tokio::time::sleep(minutes(2)).await;
    store.taken();
    tokio::time::sleep(minutes(60)).await;
    assert_eq!(store.taken(), [""; 0], "at rest");
    let other = process().await;
    let second = start(&other).await;
    tokio::time::sleep(seconds(10)).await;
    worker.stop().await.expect("stopped");
    tokio::time::sleep(minutes(2)).await;
    let taken = store.taken();
    let histories: Vec<_> = taken.iter().filter(|request| request.contains("history")).collect();
    assert!(histories.is_empty(), "a takeover reads no instance that runs: {histories:?}");
    // Three ranges of each of the 8 partitions of two workflows, which change their owner once or twice; and the
    // workers' notes.
    assert!(taken.len() <= 2 * 8 * 3 * 2 + 10, "{} requests: {taken:#?}", taken.len());
    tokio::time::sleep(minutes(60)).await;
    assert_eq!(store.taken(), [""; 0], "at rest again");
    second.stop().await.expect("stopped");
}

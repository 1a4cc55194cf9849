use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use partitura_broker::{Broker, Entry, ScanRange, Version};
use partitura_embedded::Embedded;

use super::*;
use crate::storage::store::{BrokerStore, Store};
use crate::wire::namespace::Namespace;

const NAME: Bytes = Bytes::from_static(b"task\0one");

fn broker() -> Arc<dyn Broker> {
    Arc::new(Embedded::memory(Default::default()).expect("a broker"))
}

/// The counts of one process.
fn process(broker: &Arc<dyn Broker>) -> Crashes {
    Crashes::new(TurnStore::of_client(broker, None, Namespace::default()), 5, Trials::default())
}

/// Waits until no row is left.
async fn removed(stored: &TurnStore) {
    while !stored.scan(ScanRange::prefix(CRASHES, Vec::new()), 1).await.expect("read").is_empty() {
        tokio::task::yield_now().await;
    }
}

/// Begins to run in a process, which is lost meanwhile.
async fn crash(broker: &Arc<dyn Broker>) -> Result<(), NotRun> {
    // The memory of a process that is lost is not dropped.
    begin(Box::leak(Box::new(process(broker)))).await.map(std::mem::forget)
}

/// Begins to run.
async fn begin(process: &Crashes) -> Result<impl Future + '_, NotRun> {
    let begun = Arc::new(tokio::sync::Notify::new());
    let work = {
        let begun = begun.clone();
        async move {
            begun.notify_one();
            std::future::pending::<()>().await;
        }
    };
    let mut run = Box::pin(process.run(NAME, Box::pin(work)));
    tokio::select! {
        biased;
        ended = &mut run => ended?,
        () = begun.notified() => {}
    }
    Ok(run)
}

#[tokio::test]
async fn what_was_running_each_time_when_a_process_was_lost_is_given_up() {
    let broker = broker();
    for _ in 1..5 {
        assert!(crash(&broker).await.is_ok());
    }
    assert!(matches!(crash(&broker).await, Err(NotRun::GivenUp(5))));
    let process = process(&broker);
    process.forget(NAME);
    removed(&process.stored).await;
    assert!(crash(&broker).await.is_ok(), "sent again, it begins anew");
}

#[tokio::test]
async fn what_has_ended_is_counted_anew() {
    let broker = broker();
    for _ in 0..10 {
        assert!(crash(&broker).await.is_ok());
        let process = process(&broker);
        assert!(process.run(NAME, Box::pin(async {})).await.is_ok());
        removed(&process.stored).await;
    }
}

#[tokio::test]
async fn what_comes_again_to_a_process_that_lives_is_no_crash() {
    let broker = broker();
    let process = process(&broker);
    for _ in 0..10 {
        drop(begin(&process).await.expect("it runs"));
    }
}

#[tokio::test]
async fn a_worker_that_is_dropped_in_a_process_that_lives_is_no_crash() {
    let broker = broker();
    for before in [0, 3] {
        for _ in 0..before {
            crash(&broker).await.expect("it runs");
        }
        for _ in 0..10 {
            let worker = process(&broker);
            drop(begin(&worker).await.expect("it runs"));
            let left = || async {
                let row = worker.stored.get(CRASHES, NAME).await.expect("read");
                row.map_or(0, |(_, value)| wire::decode::<u32>(&value).expect("a number"))
            };
            while left().await > before {
                tokio::task::yield_now().await;
            }
            assert_eq!(left().await, before, "the crashes of before count");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn accused_ones_run_one_at_a_time() {
    let broker = broker();
    let names: Vec<Bytes> = (0..4).map(|n: u8| Bytes::from(vec![n])).collect();
    let (process, running) = (process(&broker), AtomicUsize::new(0));
    for name in &names {
        process.stored.write(vec![vec![put(name.clone(), Expect::Any, Some(1))]]).await.expect("written");
    }
    let runs = names.iter().map(|name| {
        process.run(
            name.clone(),
            Box::pin(async {
                assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0, "another is on trial");
                sleep(Duration::from_millis(500)).await;
                running.fetch_sub(1, Ordering::SeqCst);
            }),
        )
    });
    futures::future::try_join_all(runs).await.expect("all ran");
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_another_process_begins_while_this_one_waits_is_counted() {
    let broker = broker();
    let waiting = process(&broker);
    for name in [Bytes::from_static(b"another"), NAME] {
        waiting.stored.write(vec![vec![put(name, Expect::Any, Some(1))]]).await.expect("written");
    }
    let another = waiting.run(Bytes::from_static(b"another"), Box::pin(sleep(Duration::from_millis(500))));
    let copy = async {
        sleep(Duration::from_millis(100)).await;
        assert!(crash(&broker).await.is_ok());
    };
    let begun = waiting.run(
        NAME,
        Box::pin(async {
            let row = waiting.stored.get(CRASHES, NAME).await.expect("read").expect("a row");
            assert_eq!(wire::decode::<u32>(&row.1).expect("a number"), 3, "the one before, the copy, and the next");
        }),
    );
    let (another, (), begun) = tokio::join!(another, copy, begun);
    assert!(another.is_ok() && begun.is_ok());
}

/// A store that counts the requests.
#[derive(Debug)]
struct Counting(BrokerStore, Arc<AtomicUsize>);

#[async_trait]
impl Store for Counting {
    async fn write(&self, groups: Vec<Vec<Put>>) -> Vec<Result<()>> {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.write(groups).await
    }

    async fn get(&self, space: Space, key: Bytes) -> Result<Option<(Version, Bytes)>> {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.get(space, key).await
    }

    async fn scan(&self, range: ScanRange, limit: usize) -> Result<Vec<Entry>> {
        self.0.scan(range, limit).await
    }
}

#[tokio::test]
async fn each_that_comes_again_costs_one_request_and_what_has_ended_is_removed_together() {
    let (broker, requests) = (broker(), Arc::new(AtomicUsize::new(0)));
    let counting = Counting(BrokerStore::new(broker.clone()).expect("a store"), requests.clone());
    let stored = TurnStore::of_client(&broker, Some(Arc::new(counting)), Namespace::default());
    let process = Crashes::new(stored.clone(), 5, Trials::default());
    let (begun, together) = (AtomicUsize::new(0), tokio::sync::Barrier::new(100));
    let runs = (0..100).map(|n: u8| {
        let work = async {
            begun.fetch_add(1, Ordering::SeqCst);
            if together.wait().await.is_leader() {
                assert_eq!(requests.load(Ordering::SeqCst), 100, "of a hundred, before the first has ended");
            }
        };
        process.run(Bytes::from(vec![n]), Box::pin(work))
    });
    futures::future::try_join_all(runs).await.expect("all ran");
    removed(&stored).await;
    assert_eq!(begun.load(Ordering::SeqCst), 100);
    assert!(requests.load(Ordering::SeqCst) <= 102, "{requests:?}");
}

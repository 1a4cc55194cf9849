//! Two stores, as in two processes, that write the same keys.

use bytes::Bytes;
use partitura_broker::{ErrorKind, Expect, ScanRange};
use partitura_engine::Store;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_owners_exactly_one_writes_each_turn() {
    const INSTANCES: u32 = 20;
    const TURNS: u32 = 30;
    let (url, schema) = (server_url().await, fresh_schema());
    let (one, other) = (open(&url, &schema).await.expect("a store"), open(&url, &schema).await.expect("a store"));
    let mut owners = JoinSet::new();
    for instance in 0..INSTANCES {
        for (name, store) in [("one", one.clone()), ("other", other.clone())] {
            owners.spawn(async move {
                let mut won = 0;
                for turn in 0..TURNS {
                    let row = |what: &str| format!("{what} {instance:02} {turn:02}");
                    // Writes as a turn does: its row is the fence, and its other writes happen with it or not at all.
                    let group = vec![
                        put(row("row"), Expect::Absent, Some(name)),
                        put(format!("latest {instance:02}"), Expect::Any, Some(name)),
                        put(row(name), Expect::Any, Some(name)),
                    ];
                    match write(&store, group).await {
                        Ok(()) => won += 1,
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
                    }
                }
                won
            });
        }
    }
    let results = timeout(LIVENESS, owners.join_all()).await.expect("it hangs");
    assert_eq!(results.iter().sum::<u32>(), INSTANCES * TURNS);
    let all = one.scan(ScanRange { space: SPACE, from: Bytes::new(), to: None }, 10_000).await.expect("read");
    let value = |key: &str| all.iter().find(|entry| entry.key == key.as_bytes()).map(|entry| entry.value.clone());
    for instance in 0..INSTANCES {
        for turn in 0..TURNS {
            let winner = value(&format!("row {instance:02} {turn:02}")).expect("a winner");
            for name in ["one", "other"] {
                let beside = value(&format!("{name} {instance:02} {turn:02}"));
                assert_eq!(beside.is_some(), winner == name.as_bytes(), "{name}, {instance}, {turn}");
            }
        }
        let latest = one.get(SPACE, format!("latest {instance:02}").into()).await.expect("read").expect("written");
        assert_eq!(latest.0, u64::from(TURNS), "one write for each turn");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_increment_is_lost_whoever_reads_and_writes_at_the_same_time() {
    const COUNTERS: u32 = 3;
    const WORKERS: u32 = 12;
    const INCREMENTS: u32 = 25;
    let (url, schema) = (server_url().await, fresh_schema());
    let stores = [open(&url, &schema).await.expect("a store"), open(&url, &schema).await.expect("a store")];
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        let store = stores[(worker % 2) as usize].clone();
        workers.spawn(async move {
            for increment in 0..INCREMENTS {
                // In changing order, so that writers which lock keys one after the other meet in opposite orders.
                let mut counters: Vec<u32> = (0..COUNTERS).collect();
                counters.rotate_left(((worker + increment) % COUNTERS) as usize);
                loop {
                    let mut group = Vec::new();
                    for counter in &counters {
                        let key = Bytes::from(counter.to_string());
                        let (expect, count) = match store.get(SPACE, key.clone()).await.expect("read") {
                            None => (Expect::Absent, 0),
                            Some((version, count)) => (Expect::Version(version), count_of(&count)),
                        };
                        group.push(put(key, expect, Some(&(count + 1).to_string())));
                    }
                    match write(&store, group).await {
                        Ok(()) => break,
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
                    }
                }
            }
        });
    }
    timeout(LIVENESS, workers.join_all()).await.expect("it hangs");
    for counter in 0..COUNTERS {
        let (version, count) = stores[0].get(SPACE, counter.to_string().into()).await.expect("read").expect("written");
        assert_eq!((version, count_of(&count)), (u64::from(WORKERS * INCREMENTS), WORKERS * INCREMENTS));
    }
}

fn count_of(value: &Bytes) -> u32 {
    std::str::from_utf8(value).expect("text").parse().expect("a number")
}

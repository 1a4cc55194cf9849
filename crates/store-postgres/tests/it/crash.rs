//! The server is killed during writes, and started again.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use partitura_broker::{Expect, ScanRange};
use partitura_engine::Store;
use partitura_servers::{Kind, Server};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout;

use crate::support::*;

const WRITERS: u32 = 40;
const KILLS: u32 = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_confirmed_is_lost_and_nothing_half_is_left_when_the_server_is_killed() {
    // A server of its own, since killing it breaks all of its clients.
    let server = Server::private(Kind::Postgres, "store-crash", 26_400);
    let control = {
        let server = server.clone();
        move |control: fn(&Server) -> partitura_servers::Result<()>| {
            let server = server.clone();
            async move { spawn_blocking(move || control(&server)).await.expect("no panic").expect("the server obeys") }
        }
    };
    control(Server::up).await;
    let store = open(&server.url(), &fresh_schema()).await.expect("a store");
    let rounds = Arc::new(AtomicU32::new(0));
    let confirmed = Arc::new(AtomicU32::new(0));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (store, rounds, confirmed) = (store.clone(), rounds.clone(), confirmed.clone());
        writers.spawn(async move {
            let mut sure = Vec::new();
            for turn in 0u32.. {
                if rounds.load(Ordering::SeqCst) > KILLS {
                    break;
                }
                let half = |half: &str| put(format!("{writer:02} {turn:06} {half}"), Expect::Absent, Some("x"));
                match write(&store, vec![half("a"), half("b")]).await {
                    Ok(()) => {
                        sure.push((writer, turn));
                        confirmed.fetch_add(1, Ordering::SeqCst);
                    }
                    Err(error) => {
                        assert!(error.is_retryable(), "{error}");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            }
            sure
        });
    }
    for round in 1..=KILLS + 1 {
        let before = confirmed.load(Ordering::SeqCst);
        let progress = async {
            while confirmed.load(Ordering::SeqCst) < before + 500 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(LIVENESS, progress).await.expect("it writes again");
        if round <= KILLS {
            control(Server::kill).await;
            control(Server::start).await;
        }
        rounds.store(round, Ordering::SeqCst);
    }
    let sure: Vec<(u32, u32)> = timeout(LIVENESS, writers.join_all()).await.expect("it hangs").concat();
    let halves = halves(&store).await;
    control(|server| server.down(true)).await;

    for turn in &sure {
        assert_eq!(halves.get(turn), Some(&2), "{turn:?} was confirmed");
    }
    assert!(halves.values().all(|halves| *halves == 2), "half of a group was written");
}

/// The number of rows of each turn.
async fn halves(store: &dyn Store) -> HashMap<(u32, u32), u32> {
    let mut halves = HashMap::new();
    let mut range = ScanRange { space: SPACE, from: Bytes::new(), to: None };
    loop {
        let page = store.scan(range.clone(), 1_000).await.expect("a page");
        let Some(last) = page.last() else { return halves };
        range = range.after(&last.key);
        for entry in page {
            let key = String::from_utf8_lossy(&entry.key).into_owned();
            let mut parts = key.split(' ').map(|part| part.parse().unwrap_or_default());
            let turn = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            *halves.entry(turn).or_default() += 1;
        }
    }
}

//! Measures groups per second, with 1, 50 and 500 in flight: this store beside the embedded one, on the same disk, as
//! JSON lines.
//!
//! ```text
//! cargo run --release -p partitura-store-postgres --example groups -- postgres://postgres@127.0.0.1:5432/store [SECONDS]
//! ```
//!
//! A group is the write of an ordinary turn of a workflow: it adds a row of history and a row of the outbox, and
//! removes the previous row of the outbox.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use partitura_broker::{Expect, Put};
use partitura_embedded::Embedded;
use partitura_engine::{BrokerStore, Store};
use partitura_store_postgres::{Options, PostgresStore};
use tokio::task::JoinSet;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("usage: groups postgres://USER:PASSWORD@HOST:PORT/DATABASE [SECONDS]")?;
    let seconds = arguments.next().map_or(Ok(5), |seconds| seconds.parse())?;
    let directory = tempfile::tempdir_in(".")?;
    let embedded = Embedded::open(directory.path(), partitura_embedded::Options::default())?;
    let stores: [(&str, Arc<dyn Store>); 2] = [
        ("postgres", Arc::new(PostgresStore::connect(&url, Options::default()).await?)),
        ("embedded", Arc::new(BrokerStore::new(Arc::new(embedded))?)),
    ];
    for in_flight in [1, 50, 500] {
        for (name, store) in &stores {
            let mut took = measure(store, in_flight, Duration::from_secs(seconds)).await?;
            took.sort_unstable();
            let percentile = |p: usize| took.get(took.len() * p / 100).map_or(0.0, |took| took.as_secs_f64() * 1_000.0);
            let figures = serde_json::json!({
                "store": name, "in_flight": in_flight, "groups_per_s": took.len() as u64 / seconds,
                "p50_ms": percentile(50), "p99_ms": percentile(99),
            });
            println!("{figures}");
        }
    }
    Ok(())
}

/// The time that each group took.
async fn measure(store: &Arc<dyn Store>, in_flight: usize, time: Duration) -> Result<Vec<Duration>, Box<dyn Error>> {
    let over = Arc::new(AtomicBool::new(false));
    let run = now();
    let mut instances = JoinSet::new();
    for instance in 0..in_flight {
        let (store, over) = (store.clone(), over.clone());
        instances.spawn(async move {
            let mut took = Vec::new();
            for turn in 0.. {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let begun = Instant::now();
                let written = store.write(vec![group(&format!("{run}/{instance:04}"), turn)]).await;
                written.into_iter().collect::<Result<(), _>>()?;
                took.push(begun.elapsed());
            }
            Ok::<_, partitura_broker::Error>(took)
        });
    }
    tokio::time::sleep(time).await;
    over.store(true, Ordering::Relaxed);
    let mut all = Vec::new();
    while let Some(took) = instances.join_next().await {
        all.append(&mut took??);
    }
    Ok(all)
}

fn group(instance: &str, turn: u32) -> Vec<Put> {
    let key = |turn: u32| Bytes::from([instance.as_bytes(), &turn.to_be_bytes()].concat());
    let put = |space, turn, expect, value: Option<usize>| Put {
        space,
        key: key(turn),
        expect,
        value: value.map(|size| vec![b'x'; size].into()),
    };
    let mut puts = vec![put("history", turn, Expect::Absent, Some(400)), put("outbox", turn, Expect::Any, Some(300))];
    puts.extend(turn.checked_sub(1).map(|before| put("outbox", before, Expect::Any, None)));
    puts
}

fn now() -> u128 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map(|now| now.as_nanos()).unwrap_or_default()
}

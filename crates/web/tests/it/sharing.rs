//! Visitors share what is read for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use partitura::contract::{Entry, Put, Result, ScanRange, Space, Version};
use partitura::{BrokerStore, Store};

use crate::support::{Browser, Hold, deployment_with};

/// A store that counts the requests for rows by which instances are found.
#[derive(Debug)]
struct Counting(BrokerStore, AtomicUsize);

impl Counting {
    fn note(&self, ranges: &[ScanRange]) {
        self.1.fetch_add(usize::from(ranges.iter().any(|range| range.space == "index")), Ordering::SeqCst);
    }
}

#[async_trait]
impl Store for Counting {
    async fn write(&self, groups: Vec<Vec<Put>>) -> Vec<Result<()>> {
        self.0.write(groups).await
    }

    async fn get(&self, space: Space, key: Bytes) -> Result<Option<(Version, Bytes)>> {
        self.0.get(space, key).await
    }

    async fn scan(&self, range: ScanRange, limit: usize) -> Result<Vec<Entry>> {
        self.note(std::slice::from_ref(&range));
        self.0.scan(range, limit).await
    }

    async fn scan_each(&self, ranges: Vec<ScanRange>, limit: usize) -> Result<Vec<Vec<Entry>>> {
        self.note(&ranges);
        self.0.scan_each(ranges, limit).await
    }

    async fn count_each(&self, ranges: Vec<ScanRange>, limit: usize) -> Result<Vec<usize>> {
        self.note(&ranges);
        self.0.count_each(ranges, limit).await
    }
}

#[tokio::test]
async fn fifty_visitors_of_the_overview_cost_what_one_costs() {
    let inner = BrokerStore::new(partitura::broker("memory:").await.unwrap()).unwrap();
    let store = Arc::new(Counting(inner, AtomicUsize::new(0)));
    let (partitura, worker) = deployment_with(Some(store.clone())).await;
    for number in 0..5 {
        let hold = partitura.client().workflow::<Hold>(format!("h-{number}"));
        hold.start("a".to_owned()).confirmed().await.unwrap();
    }
    worker.stop().await.unwrap();
    let requests = || store.1.swap(0, Ordering::SeqCst);
    requests();
    assert!(Browser::on(&partitura).get("/").await.text.contains("h-4"));
    let of_one = requests();
    assert!((1..=20).contains(&of_one), "{of_one}");

    let browser = Browser::on(&partitura);
    let pages = join_all((0..50).map(|_| browser.get("/"))).await;
    assert!(pages.iter().all(|page| page.text.contains("h-4")));
    // Another reading in the background looks for services that are waited for.
    let of_fifty = requests();
    assert!(of_fifty <= 2 * of_one, "{of_fifty}, and of one {of_one}");
}

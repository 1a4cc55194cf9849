use async_trait::async_trait;
use bytes::Bytes;
use partitura_broker::{Entry, Error, Message, Result, ScanRange, Space, Transactions, Unit, Version};

use crate::client::answered;
use crate::embedded::Embedded;
use crate::error;
use crate::request::{PreparedUnit, Request, Work};
use crate::storage;

/// The weight of a token or a small write.
const OVERHEAD: usize = 64;

#[async_trait]
impl Transactions for Embedded {
    async fn commit(&self, units: Vec<Unit>) -> Vec<Result<()>> {
        let core = self.client().core();
        let count = units.len();
        let all = |error: Error| (0..count).map(|_| Err(error.duplicate())).collect();
        let Ok(permit) = core.admit(units.iter().map(weight).sum()).await else {
            return all(error::closed("commit"));
        };
        let now = core.now();
        let catalog = core.state().catalog().clone();
        let prepare = |unit| PreparedUnit::new(unit, |message| core.prepare(&catalog, message, now));
        let (request, answer) = Request::each(Work::Commit(units.into_iter().map(prepare).collect()), vec![permit]);
        if self.client().submit(request).is_err() {
            return all(error::closed("commit"));
        }
        answered("commit", answer).await.unwrap_or_else(all)
    }

    async fn get(&self, space: Space, key: Bytes) -> Result<Option<(Version, Bytes)>> {
        self.client().read(move |connection| storage::get(connection, space, &key)).await
    }

    async fn scan(&self, range: ScanRange, limit: usize) -> Result<Vec<Entry>> {
        self.client().read(move |connection| storage::scan(connection, &range, limit)).await
    }

    async fn scan_each(&self, ranges: Vec<ScanRange>, limit: usize) -> Result<Vec<Vec<Entry>>> {
        let scan = move |connection: &_| ranges.iter().map(|range| storage::scan(connection, range, limit)).collect();
        self.client().read(scan).await
    }

    async fn count_each(&self, ranges: Vec<ScanRange>, limit: usize) -> Result<Vec<usize>> {
        let count = move |connection: &_| ranges.iter().map(|range| storage::count(connection, range, limit)).collect();
        self.client().read(count).await
    }
}

fn weight(unit: &Unit) -> usize {
    let values = unit.put.iter().map(|put| OVERHEAD + put.key.len() + put.value.as_ref().map_or(0, Bytes::len));
    let messages = unit.publish.iter().map(|message| OVERHEAD + Message::size(message));
    OVERHEAD * unit.settle.len() + values.sum::<usize>() + messages.sum::<usize>()
}

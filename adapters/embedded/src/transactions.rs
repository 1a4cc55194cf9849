use async_trait::async_trait;
use bytes::Bytes;
use partitura_broker::{Entry, Error, Message, Result, ScanRange, Space, Transactions, Unit, Version};

use crate::core::answered;
use crate::embedded::Embedded;
use crate::failure;
use crate::request::{PreparedUnit, Request, Work};
use crate::storage;

/// The weight of a token or a small write.
const OVERHEAD: usize = 64;

#[async_trait]
impl Transactions for Embedded {
    async fn commit(&self, units: Vec<Unit>) -> Vec<Result<()>> {
        let core = self.core();
        let count = units.len();
        let all = |error: Error| (0..count).map(|_| Err(error.duplicate())).collect();
        let Ok(permit) = core.admit(units.iter().map(weight).sum()).await else {
            return all(failure::closed("commit"));
        };
        let now = core.now();
        let catalog = core.state().catalog().clone();
        let prepare = |unit| PreparedUnit::new(unit, |message| core.prepare(&catalog, message, now));
        let (request, answer) = Request::each(Work::Commit(units.into_iter().map(prepare).collect()), vec![permit]);
        if core.submit(request).is_err() {
            return all(failure::closed("commit"));
        }
        answered("commit", answer).await.unwrap_or_else(all)
    }

    async fn get(&self, space: Space, key: Bytes) -> Result<Option<(Version, Bytes)>> {
        self.core().read(move |connection| storage::get(connection, space, &key)).await
    }

    async fn scan(&self, range: ScanRange, limit: usize) -> Result<Vec<Entry>> {
        self.core().read(move |connection| storage::scan(connection, &range, limit)).await
    }
}

fn weight(unit: &Unit) -> usize {
    let values = unit.put.iter().map(|put| OVERHEAD + put.key.len() + put.value.as_ref().map_or(0, Bytes::len));
    let messages = unit.publish.iter().map(|message| OVERHEAD + Message::size(message));
    OVERHEAD * unit.settle.len() + values.sum::<usize>() + messages.sum::<usize>()
}

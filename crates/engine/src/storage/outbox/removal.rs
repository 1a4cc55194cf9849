//! Removes confirmed rows, many at a time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use partitura_broker::{Expect, Put, Result};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::row::{OUTBOX, PAGE, REFUSED};
use crate::pause::Pause;
use crate::storage::store::Store;

/// How long a confirmed row waits for others to be removed together with it.
const GATHER: Duration = Duration::from_millis(20);
/// How many confirmed rows may wait to be removed. Turns wait beyond that: the store does not answer.
const CONFIRMED: usize = 10_000;

/// The way to the task that removes rows. The task ends with it.
#[derive(Debug)]
pub(super) struct Removals(mpsc::Sender<Removal>);

/// A request to the task.
enum Removal {
    /// Remove this row, and what may be set aside of it.
    Of(Bytes, Option<Bytes>),
    /// Tell when all rows so far are removed.
    Flush(oneshot::Sender<()>),
}

impl Removals {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        let (sender, asked) = mpsc::channel(CONFIRMED);
        tokio::spawn(run(store, asked));
        Self(sender)
    }

    /// Has a row removed soon, together with what may be `aside` of it.
    pub(super) async fn remove(&self, key: Bytes, aside: Option<Bytes>) {
        // The task lives as long as we do.
        let _ = self.0.send(Removal::Of(key, aside)).await;
    }

    /// Waits until every row is removed that was given before.
    pub(super) async fn flush(&self) {
        let (done, is_done) = oneshot::channel();
        if self.0.send(Removal::Flush(done)).await.is_ok() {
            let _ = is_done.await;
        }
    }
}

async fn run(store: Arc<dyn Store>, mut asked: mpsc::Receiver<Removal>) {
    let mut batch = Vec::new();
    while asked.recv_many(&mut batch, PAGE).await > 0 {
        let gathered = async { while !is_urgent(&batch) && asked.recv_many(&mut batch, PAGE).await > 0 {} };
        let _ = timeout(GATHER, gathered).await;
        let (mut rows, mut flushes) = (Vec::with_capacity(batch.len()), Vec::new());
        for removal in batch.drain(..) {
            match removal {
                Removal::Of(key, aside) => rows.push((key, aside)),
                Removal::Flush(done) => flushes.push(done),
            }
        }
        write(&*store, &rows).await;
        for done in flushes {
            let _ = done.send(());
        }
    }
}

fn is_urgent(batch: &[Removal]) -> bool {
    batch.len() >= PAGE || batch.iter().any(|removal| matches!(removal, Removal::Flush(_)))
}

/// Removes rows, again and again if need be.
async fn write(store: &dyn Store, rows: &[(Bytes, Option<Bytes>)]) {
    let mut pause = Pause::new();
    while !rows.is_empty() {
        let groups = rows.chunks(PAGE).map(|rows| rows.iter().flat_map(removals).collect()).collect();
        match store.write(groups).await.into_iter().find_map(Result::err) {
            Some(error) if error.is_retryable() => {
                tracing::warn!(%error, ?pause, "removing confirmed messages from the outbox again");
                pause.wait().await;
            }
            Some(error) => {
                tracing::error!(%error, "confirmed messages stay in the outbox; the next owner sends them again");
                return;
            }
            None => return,
        }
    }
}

fn removals((key, aside): &(Bytes, Option<Bytes>)) -> impl Iterator<Item = Put> {
    let removal = |(space, key)| Put { space, key, expect: Expect::Any, value: None };
    [(OUTBOX, Some(key)), (REFUSED, aside.as_ref())]
        .into_iter()
        .filter_map(move |(space, key)| key.cloned().map(|key| removal((space, key))))
}

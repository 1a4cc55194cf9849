//! Group commit: while batches are being written, the next one forms.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::batch::{Batch, Group, Key, Keys};
use crate::writer::{Target, Writer};

/// Gives groups to writers. Groups that share a key keep their order: the later one waits for the answer to the earlier
/// one.
#[derive(Debug)]
pub(crate) struct WriteQueue {
    target: Arc<Target>,
    idle: Vec<Writer>,
    /// The keys of the batches that are being written, and of the batch that forms.
    busy: Keys,
    give_back: mpsc::Sender<Returned>,
    returned: mpsc::Receiver<Returned>,
}

/// A writer whose batch is answered, and the keys of that batch.
#[derive(Debug)]
struct Returned {
    writer: Writer,
    keys: Vec<Key>,
}

impl WriteQueue {
    pub(crate) fn new(target: Arc<Target>, writers: Vec<Writer>) -> Self {
        let (give_back, returned) = mpsc::channel(writers.len().max(1));
        Self { target, idle: writers, busy: Keys::new(), give_back, returned }
    }

    /// Serves until there is no caller left; then closes the connections.
    pub(crate) async fn serve(mut self, mut groups: mpsc::Receiver<Group>) {
        let all = self.idle.len();
        let mut held = None;
        loop {
            let next = match held.take() {
                Some(group) => Some(group),
                None => groups.recv().await,
            };
            let Some(first) = next else { break };
            let writer = self.writer_for(&first).await;
            let mut batch = Batch::default();
            self.add(&mut batch, first);
            // Groups that came while all writers were busy are sent together.
            while let Ok(group) = groups.try_recv() {
                if batch.is_full_for(&group) || group.touches(&self.busy) {
                    held = Some(group);
                    break;
                }
                self.add(&mut batch, group);
            }
            self.send(writer, batch);
        }
        while self.idle.len() < all {
            self.await_return().await;
        }
        for writer in self.idle {
            writer.close().await;
        }
    }

    fn add(&mut self, batch: &mut Batch, group: Group) {
        self.busy.extend(group.keys());
        batch.add(group);
    }

    /// Waits until a writer is free and none writes any of the group's keys.
    async fn writer_for(&mut self, group: &Group) -> Writer {
        loop {
            if !group.touches(&self.busy)
                && let Some(writer) = self.idle.pop()
            {
                return writer;
            }
            self.await_return().await;
        }
    }

    async fn await_return(&mut self) {
        // The channel is never closed, since one sender is a field of self.
        if let Some(Returned { writer, keys }) = self.returned.recv().await {
            for key in &keys {
                self.busy.remove(key);
            }
            self.idle.push(writer);
        }
    }

    fn send(&self, mut writer: Writer, batch: Batch) {
        let (target, give_back) = (self.target.clone(), self.give_back.clone());
        let keys = batch.keys().collect();
        tokio::spawn(async move {
            writer.write(&target, batch).await;
            // No caller waits for it when the runtime ends.
            let _ = give_back.send(Returned { writer, keys }).await;
        });
    }
}

//! Group commit: while batches are on their way, the next one forms.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::batch::{Batch, Group, Key, Keys};
use crate::writer::{Target, Writer};

/// Gives groups to writers. Groups that share a key keep their order: the later one waits for the answer to the earlier
/// one.
#[derive(Debug)]
pub(crate) struct Desk {
    target: Arc<Target>,
    idle: Vec<Writer>,
    /// The keys of the batches on their way, and of the batch that forms.
    busy: Keys,
    back: mpsc::Sender<(Writer, Vec<Key>)>,
    returning: mpsc::Receiver<(Writer, Vec<Key>)>,
}

impl Desk {
    pub(crate) fn new(target: Arc<Target>, writers: Vec<Writer>) -> Self {
        let (back, returning) = mpsc::channel(writers.len().max(1));
        Self { target, idle: writers, busy: Keys::new(), back, returning }
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
        // One sender is ours, so the channel is never closed.
        if let Some((writer, keys)) = self.returning.recv().await {
            for key in &keys {
                self.busy.remove(key);
            }
            self.idle.push(writer);
        }
    }

    fn send(&self, mut writer: Writer, batch: Batch) {
        let (target, back) = (self.target.clone(), self.back.clone());
        let keys = batch.keys().collect();
        tokio::spawn(async move {
            writer.write(&target, batch).await;
            // No caller waits for it when the runtime ends.
            let _ = back.send((writer, keys)).await;
        });
    }
}

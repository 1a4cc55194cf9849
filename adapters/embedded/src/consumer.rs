use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use partitura_broker::{AckToken, Consumer, Event, Partition, Result, telemetry};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::client::Client;
use crate::core::{Core, SYSTEM};
use crate::state::{Content, Location, Taken, Wake};
use crate::{error, storage, wire};

/// The longest sleep before the clock is read again, since it may have jumped.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// In memory time is mostly virtual, and a month should take few steps.
const LOOK_AGAIN_IN_MEMORY: Duration = Duration::from_secs(24 * 60 * 60);

/// One member of a subscription. See [`Consumer`] for what it promises.
#[derive(Debug)]
pub(crate) struct EmbeddedConsumer {
    client: Arc<Client>,
    id: u32,
    notify: Arc<Notify>,
    /// Wakes any one of the competing consumers; never used if none compete.
    competing: Arc<Notify>,
    /// The messages whose contents must be read before more are taken.
    absent: Vec<Location>,
}

impl EmbeddedConsumer {
    pub(crate) fn new(client: Arc<Client>, id: u32, notify: Arc<Notify>, competing: Arc<Notify>) -> Self {
        Self { client, id, notify, competing, absent: Vec::new() }
    }

    fn core(&self) -> &Core {
        self.client.core()
    }

    /// Reads contents that are not in memory. If the future is dropped, it has done nothing.
    async fn load(&self, wanted: Vec<Location>) -> Result<()> {
        let seqs: Vec<u64> = wanted.iter().map(|location| location.place.seq).collect();
        let bodies = self.client.read(move |connection| storage::bodies(connection, &seqs)).await?;
        let mut state = self.core().state();
        let mut contents = Vec::with_capacity(wanted.len());
        for (location, body) in wanted.into_iter().zip(bodies) {
            match body.and_then(|body| wire::decode(&state.topic_of(location.queue), body)) {
                Some(message) => contents.push(Content { location, message }),
                None if state.is_absent(location) => return Err(error::damaged_message(location.place.seq)),
                None => {}
            }
        }
        state.fill(contents);
        Ok(())
    }

    /// Sleeps until a message may be due.
    async fn sleep(&self, wake: Wake) {
        let core = self.core();
        let limit = if self.client.is_in_memory() { LOOK_AGAIN_IN_MEMORY } else { LOOK_AGAIN };
        let due = wake.due.map(|due| Instant::now() + due.since(core.now()).min(limit));
        match due.into_iter().chain(wake.deadline).min() {
            Some(moment) => tokio::time::sleep_until(moment).await,
            None => std::future::pending().await,
        }
    }
}

#[async_trait]
impl Consumer for EmbeddedConsumer {
    async fn next(&mut self) -> Result<Event> {
        // Whether this consumer was woken instead of another.
        let mut chosen = false;
        loop {
            if !self.absent.is_empty() {
                // It is removed only when it is done, since this future may be dropped.
                self.load(self.absent.clone()).await?;
                self.absent.clear();
            }
            let wake = {
                // It registers for a wake-up before it looks, so that it misses nothing that comes after. If it does
                // not need the wake-up, that goes to another.
                let mut competing = pin!(self.competing.notified());
                chosen |= competing.as_mut().enable();
                let now = self.core().now();
                let taken = self.core().state().take(self.id, now, Instant::now());
                match taken {
                    Taken::Event(event, wanted) => {
                        self.absent = wanted;
                        return Ok(event);
                    }
                    Taken::Closed => return Err(error::closed("consume")),
                    Taken::Load(wanted) => {
                        self.absent = wanted;
                        continue;
                    }
                    Taken::Wait(wake) if wake.full => wake,
                    Taken::Wait(wake) => {
                        chosen = false;
                        tokio::select! {
                            () = self.notify.notified() => {}
                            () = competing => chosen = true,
                            () = self.sleep(wake) => {}
                        }
                        continue;
                    }
                }
            };
            // Messages beyond its credit are for another: it passes its wake-up on, and waits until it may have more.
            if std::mem::take(&mut chosen) {
                self.competing.notify_one();
            }
            tokio::select! {
                () = self.notify.notified() => {}
                () = self.sleep(wake) => {}
            }
        }
    }

    fn settle(&mut self, tokens: &[AckToken]) {
        let mut state = self.core().state();
        let stale = state.settle(self.id, tokens);
        let settled = state.has_settled();
        drop(state);
        telemetry::stale_settlements(SYSTEM, stale);
        if settled {
            self.client.settled();
        }
    }

    async fn flush(&mut self) -> Result<()> {
        self.client.flush().await
    }

    async fn release(&mut self, partitions: &[Partition]) -> Result<()> {
        let flushed = self.client.flush().await;
        self.core().state().release(self.id, partitions, Instant::now());
        flushed
    }

    async fn close(self: Box<Self>) -> Result<()> {
        self.client.flush().await
    }
}

impl Drop for EmbeddedConsumer {
    fn drop(&mut self) {
        self.core().state().leave(self.id, Instant::now());
    }
}

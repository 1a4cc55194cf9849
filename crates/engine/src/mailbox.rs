//! Requests that wait for a reply at this process' inbox.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use partitura_broker::{Broker, InboxAddress, Result};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::wire::{self, Reply, ReplyBody, ReplyTo};

/// An inbox and the requests that wait at it. Closes when dropped.
#[derive(Debug)]
pub(crate) struct Mailbox {
    address: InboxAddress,
    waiting: Arc<Waiting>,
    next: AtomicU64,
    pump: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Waiting(Mutex<HashMap<u64, oneshot::Sender<ReplyBody>>>);

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<ReplyBody>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mailbox {
    pub(crate) async fn open(broker: &dyn Broker) -> Result<Self> {
        let mut inbox = broker.inbox().await?;
        let address = inbox.address().clone();
        let waiting = Arc::<Waiting>::default();
        let pump = tokio::spawn({
            let waiting = waiting.clone();
            async move {
                loop {
                    match inbox.next().await {
                        Ok(message) => deliver(&waiting, &message.payload),
                        Err(error) if error.is_retryable() => tokio::time::sleep(Duration::from_millis(100)).await,
                        Err(error) => {
                            tracing::debug!(%error, "the inbox is closed");
                            // Whoever waits learns it: their sender is dropped.
                            waiting.lock().clear();
                            return;
                        }
                    }
                }
            }
        });
        Ok(Self { address, waiting, next: AtomicU64::new(1), pump })
    }

    /// An address for one reply, and the future of it.
    pub(crate) fn request(&self) -> (ReplyTo, PendingReply) {
        let request = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().insert(request, sender);
        let pending = PendingReply { request, receiver, waiting: self.waiting.clone() };
        (ReplyTo { inbox: self.address.clone(), request }, pending)
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

fn deliver(waiting: &Waiting, payload: &[u8]) {
    match wire::decode::<Reply>(payload) {
        Ok(Reply { request, body }) => {
            if let Some(sender) = waiting.lock().remove(&request) {
                // Who gave up waiting meanwhile does not mind.
                let _ = sender.send(body);
            }
        }
        Err(error) => tracing::warn!(%error, "a reply could not be read; is the worker of a newer version?"),
    }
}

/// Resolves with the reply, or `None` when the inbox was closed. Dropping it forgets the request.
#[derive(Debug)]
pub(crate) struct PendingReply {
    request: u64,
    receiver: oneshot::Receiver<ReplyBody>,
    waiting: Arc<Waiting>,
}

impl Future for PendingReply {
    type Output = Option<ReplyBody>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ReplyBody>> {
        Pin::new(&mut self.receiver).poll(cx).map(Result::ok)
    }
}

impl Drop for PendingReply {
    fn drop(&mut self) {
        self.waiting.lock().remove(&self.request);
    }
}

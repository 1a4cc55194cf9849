//! Requests that wait for a reply at this process' inbox.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::StreamExt;
use futures::channel::mpsc;
use partitura_broker::{Broker, Clock, InboxAddress, Producer, Result, TopicName};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::wire::{self, Payloads, Reply, ReplyBody, ReplyTo, TimeQuestion};

/// How many messages to one line may wait. Those beyond are dropped, as a reply that comes too late is.
const LINE: usize = 16;

/// An inbox and the requests that wait at it. Closes when dropped.
#[derive(Debug)]
pub(crate) struct Mailbox {
    address: InboxAddress,
    waiting: Arc<Waiting>,
    time: Arc<OnceLock<Time>>,
    next: AtomicU64,
    pump: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Waiting(Mutex<BTreeMap<u64, Waiter>>);

#[derive(Debug)]
enum Waiter {
    /// For one reply.
    Request(oneshot::Sender<ReplyBody>),
    /// For any number.
    Line(mpsc::Sender<ReplyBody>),
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Waiter>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The parts that are needed to tell others the time.
#[derive(Debug)]
struct Time {
    producer: Box<dyn Producer>,
    clock: Arc<dyn Clock>,
}

impl Mailbox {
    pub(crate) async fn open(broker: &dyn Broker, payloads: &Payloads) -> Result<Self> {
        let payloads = payloads.clone();
        let mut inbox = broker.inbox().await?;
        let address = inbox.address().clone();
        let waiting = Arc::<Waiting>::default();
        let time = Arc::<OnceLock<Time>>::default();
        let pump = tokio::spawn({
            let (waiting, time) = (waiting.clone(), time.clone());
            async move {
                loop {
                    match inbox.next().await {
                        Ok(message) => deliver(&payloads, &waiting, &time, &message.payload),
                        Err(error) if error.is_retryable() => tokio::time::sleep(Duration::from_millis(100)).await,
                        Err(error) => {
                            tracing::debug!(%error, "the inbox is closed");
                            // The callers that wait learn it: their sender is dropped.
                            waiting.lock().clear();
                            return;
                        }
                    }
                }
            }
        });
        Ok(Self { address, waiting, time, next: AtomicU64::new(1), pump })
    }

    /// Tells the time by this clock to workers that ask at the address that comes back.
    pub(crate) fn tell_time(&self, producer: Box<dyn Producer>, clock: Arc<dyn Clock>) -> InboxAddress {
        // Told already: by the same clock.
        let _ = self.time.set(Time { producer, clock });
        self.address.clone()
    }

    /// An address for one reply, and the future of it.
    pub(crate) fn request(&self) -> (ReplyTo, PendingReply) {
        let request = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().insert(request, Waiter::Request(sender));
        let pending = PendingReply { request, receiver, waiting: self.waiting.clone() };
        (ReplyTo { inbox: self.address.clone(), request }, pending)
    }

    /// An address for any number of messages, until it is dropped.
    pub(crate) fn line(&self) -> Line {
        let request = self.next.fetch_add(1, Ordering::Relaxed);
        // Each task has one, and hardly any gets a message: this kind takes no memory for messages beforehand.
        let (sender, messages) = mpsc::channel(LINE);
        self.waiting.lock().insert(request, Waiter::Line(sender));
        let address = ReplyTo { inbox: self.address.clone(), request };
        Line { address, messages, waiting: self.waiting.clone() }
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

fn deliver(payloads: &Payloads, waiting: &Waiting, time: &Arc<OnceLock<Time>>, payload: &[u8]) {
    let Reply { request, body } = match payloads.decode::<Reply>(payload) {
        Ok(reply) => reply,
        Err(error) => {
            return match wire::decode::<TimeQuestion>(payload) {
                Ok(TimeQuestion { time_for }) => tell_time(time, time_for),
                Err(_) => tracing::warn!(%error, "a reply could not be read; is the worker of a newer version?"),
            };
        }
    };
    let mut waiting = waiting.lock();
    match waiting.remove(&request) {
        // A receiver that gave up waiting needs no reply.
        Some(Waiter::Request(sender)) => drop(sender.send(body)),
        Some(Waiter::Line(mut sender)) => {
            if let Err(error) = sender.try_send(body) {
                tracing::debug!(%error, "a message to a line was dropped");
            }
            waiting.insert(request, Waiter::Line(sender));
        }
        None => {}
    }
}

/// Beside the replies, which do not wait for it.
fn tell_time(time: &Arc<OnceLock<Time>>, to: ReplyTo) {
    let time = time.clone();
    tokio::spawn(async move {
        let Some(Time { producer, clock }) = time.get() else { return };
        let told = match TopicName::new("time") {
            Ok(topic) => {
                let body = ReplyBody::Time(clock.now().as_millis());
                producer.reply(vec![wire::reply(&Payloads::default(), &topic, &to, body, usize::MAX)]).await
            }
            Err(error) => Err(error.into()),
        };
        if let Err(error) = told {
            tracing::debug!(%error, "a question for the time was not answered; it is asked again");
        }
    });
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

/// An address that receives messages until it is dropped.
#[derive(Debug)]
pub(crate) struct Line {
    address: ReplyTo,
    messages: mpsc::Receiver<ReplyBody>,
    waiting: Arc<Waiting>,
}

impl Line {
    pub(crate) fn address(&self) -> &ReplyTo {
        &self.address
    }

    /// The next message. Waits for ever once the inbox is closed. Cancel safe.
    pub(crate) async fn next(&mut self) -> ReplyBody {
        match self.messages.next().await {
            Some(body) => body,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.waiting.lock().remove(&self.address.request);
    }
}

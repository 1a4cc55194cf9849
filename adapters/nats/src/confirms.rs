//! Confirms of published messages: one subscription for all confirms of a connection, and the waiter for each.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::response::Response;
use async_nats::{Client, Message, StatusCode, Subject, Subscriber, jetstream};
use futures::StreamExt;
use partitura_broker::Result;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::task::JoinHandle;

use crate::error;

/// The server's answer to a message.
#[derive(Debug)]
pub(crate) enum Answer {
    Stored,
    Refused(jetstream::Error),
    /// No stream takes the message.
    NoStream,
}

#[derive(Debug)]
pub(crate) struct Confirms {
    /// The beginning of the subjects that confirms come to.
    prefix: String,
    next: AtomicU64,
    waiters: Arc<Waiters>,
    reader: JoinHandle<()>,
}

/// The waiters, by number. `None` once the connection is lost.
#[derive(Debug)]
struct Waiters(Mutex<Option<HashMap<u64, Waiter>>>);

#[derive(Debug)]
struct Waiter {
    tell: oneshot::Sender<Answer>,
    /// The message's place in the window. It becomes free when the confirm comes, also if no caller waits any more.
    _window: OwnedSemaphorePermit,
}

/// A confirm that a caller waits for. Dropping it ends the wait.
#[derive(Debug)]
pub(crate) struct Confirm {
    number: u64,
    answer: oneshot::Receiver<Answer>,
    waiters: Arc<Waiters>,
}

impl Confirms {
    pub(crate) async fn open(client: &Client) -> Result<Self> {
        let prefix = format!("{}.", client.new_inbox());
        let subscribed = client.subscribe(format!("{prefix}*")).await;
        let subscriber = subscribed.map_err(|e| error::disconnected("publish").because(e))?;
        let waiters = Arc::new(Waiters(Mutex::new(Some(HashMap::new()))));
        let reader = tokio::spawn(read(subscriber, prefix.len(), waiters.clone()));
        Ok(Self { prefix, next: AtomicU64::new(0), waiters, reader })
    }

    /// Expects one more confirm, and returns the subject to which the server has to send it. `None`: the connection is
    /// lost.
    pub(crate) fn expect(&self, window: OwnedSemaphorePermit) -> Option<(Subject, Confirm)> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (tell, answer) = oneshot::channel();
        self.waiters.lock().as_mut()?.insert(number, Waiter { tell, _window: window });
        let to = Subject::from(format!("{}{number}", self.prefix));
        Some((to, Confirm { number, answer, waiters: self.waiters.clone() }))
    }
}

impl Drop for Confirms {
    fn drop(&mut self) {
        self.reader.abort();
        self.waiters.lock().take();
    }
}

impl Confirm {
    /// Waits for the answer. `None`: the connection was lost before it came. Safe to drop and call again.
    pub(crate) async fn answer(&mut self) -> Option<Answer> {
        (&mut self.answer).await.ok()
    }
}

impl Drop for Confirm {
    fn drop(&mut self) {
        if let Some(waiters) = self.waiters.lock().as_mut() {
            waiters.remove(&self.number);
        }
    }
}

impl Waiters {
    fn lock(&self) -> MutexGuard<'_, Option<HashMap<u64, Waiter>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn read(mut confirms: Subscriber, prefix: usize, waiters: Arc<Waiters>) {
    while let Some(message) = confirms.next().await {
        let number = message.subject.get(prefix..).and_then(|number| number.parse::<u64>().ok());
        let waiter = number.and_then(|number| waiters.lock().as_mut()?.remove(&number));
        if let (Some(Waiter { tell, _window }), Some(answer)) = (waiter, parse(&message)) {
            // The caller may have gone.
            let _ = tell.send(answer);
        }
    }
    // Without its sender, every waiter learns that the connection is lost.
    waiters.lock().take();
}

fn parse(message: &Message) -> Option<Answer> {
    if message.status == Some(StatusCode::NO_RESPONDERS) {
        return Some(Answer::NoStream);
    }
    match serde_json::from_slice::<Response<PublishAck>>(&message.payload).ok()? {
        Response::Ok(_) => Some(Answer::Stored),
        Response::Err { error } => Some(Answer::Refused(error)),
    }
}

//! Confirms of published messages: one subscription for all of a link, and who waits for which.

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

/// What the server said to a message.
#[derive(Debug)]
pub(crate) enum Answer {
    Stored,
    Refused(jetstream::Error),
    /// No stream takes it.
    Nobody,
}

#[derive(Debug)]
pub(crate) struct Confirms {
    /// What the subjects begin with that confirms come to.
    prefix: String,
    next: AtomicU64,
    waiting: Arc<Waiting>,
    reader: JoinHandle<()>,
}

/// Who waits, by number; nobody can once the link is lost.
#[derive(Debug)]
struct Waiting(Mutex<Option<HashMap<u64, Expected>>>);

#[derive(Debug)]
struct Expected {
    tell: oneshot::Sender<Answer>,
    /// Given back when the confirm comes, whether anybody looks at it or not.
    _window: OwnedSemaphorePermit,
}

/// A confirm that is waited for. Dropping it is to wait no longer.
#[derive(Debug)]
pub(crate) struct Confirm {
    number: u64,
    answer: oneshot::Receiver<Answer>,
    waiting: Arc<Waiting>,
}

impl Confirms {
    pub(crate) async fn open(client: &Client) -> Result<Self> {
        let prefix = format!("{}.", client.new_inbox());
        let subscribed = client.subscribe(format!("{prefix}*")).await;
        let subscriber = subscribed.map_err(|e| error::disconnected("publish").because(e))?;
        let waiting = Arc::new(Waiting(Mutex::new(Some(HashMap::new()))));
        let reader = tokio::spawn(read(subscriber, prefix.len(), waiting.clone()));
        Ok(Self { prefix, next: AtomicU64::new(0), waiting, reader })
    }

    /// Expects one more confirm, and says where it has to be sent. `None` where the link is lost.
    pub(crate) fn expect(&self, window: OwnedSemaphorePermit) -> Option<(Subject, Confirm)> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (tell, answer) = oneshot::channel();
        self.waiting.lock().as_mut()?.insert(number, Expected { tell, _window: window });
        let to = Subject::from(format!("{}{number}", self.prefix));
        Some((to, Confirm { number, answer, waiting: self.waiting.clone() }))
    }
}

impl Drop for Confirms {
    fn drop(&mut self) {
        self.reader.abort();
        self.waiting.lock().take();
    }
}

impl Confirm {
    /// The answer; `None` where the link was lost before it came. Safe to drop and call again.
    pub(crate) async fn answer(&mut self) -> Option<Answer> {
        (&mut self.answer).await.ok()
    }
}

impl Drop for Confirm {
    fn drop(&mut self) {
        if let Some(waiting) = self.waiting.lock().as_mut() {
            waiting.remove(&self.number);
        }
    }
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, Option<HashMap<u64, Expected>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn read(mut confirms: Subscriber, prefix: usize, waiting: Arc<Waiting>) {
    while let Some(message) = confirms.next().await {
        let number = message.subject.get(prefix..).and_then(|number| number.parse::<u64>().ok());
        let expected = number.and_then(|number| waiting.lock().as_mut()?.remove(&number));
        if let (Some(Expected { tell, _window }), Some(answer)) = (expected, parse(&message)) {
            // Nobody may look at it any more.
            let _ = tell.send(answer);
        }
    }
    // With their senders gone, all who wait learn that the link is.
    waiting.lock().take();
}

fn parse(message: &Message) -> Option<Answer> {
    if message.status == Some(StatusCode::NO_RESPONDERS) {
        return Some(Answer::Nobody);
    }
    match serde_json::from_slice::<Response<PublishAck>>(&message.payload).ok()? {
        Response::Ok(_) => Some(Answer::Stored),
        Response::Err { error } => Some(Answer::Refused(error)),
    }
}

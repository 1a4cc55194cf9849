use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use partitura_broker::{Error, Result, telemetry};
use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::error;
use crate::session::{Host, Statement};
use crate::template::SYSTEM;

/// The number of notices that may wait for each listener. A listener that missed some looks for itself.
const CAPACITY: usize = 256;
/// The wait before listening again.
const PAUSE: Duration = Duration::from_millis(500);

/// The notices of the server to all clients: news of messages, and the beats of members. Each broker has one connection
/// for them.
///
/// A notice is `KEY|TEXT`. A listener has an [`Ear`] for its key.
#[derive(Debug)]
pub(crate) struct Notices {
    ears: Arc<Ears>,
    listening: JoinHandle<()>,
}

type Ears = Mutex<HashMap<String, broadcast::Sender<Notice>>>;

/// The content of a notice.
#[derive(Debug, Clone)]
pub(crate) enum Notice {
    Said(String),
    /// Notices may have been lost.
    Deaf,
}

/// The place of a listener to a key.
#[derive(Debug)]
pub(crate) struct Ear(broadcast::Receiver<Notice>);

impl Notices {
    pub(crate) async fn listen(host: &Host) -> Result<Self> {
        let (listener, ears) = (connect(host).await?, Arc::default());
        let listening = tokio::spawn(hear(host.clone(), Some(listener), Arc::clone(&ears)));
        Ok(Self { ears, listening })
    }

    pub(crate) fn ear(&self, key: &str) -> Ear {
        let mut ears = self.ears.lock().unwrap_or_else(PoisonError::into_inner);
        Ear(ears.entry(key.to_owned()).or_insert_with(|| broadcast::channel(CAPACITY).0).subscribe())
    }
}

impl Drop for Notices {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Ear {
    /// Waits for the next notice.
    pub(crate) async fn next(&mut self) -> Notice {
        match self.0.recv().await {
            Ok(notice) => notice,
            Err(RecvError::Lagged(_)) => Notice::Deaf,
            // The broker is gone, which all clients learn in another way.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }

    /// Forgets the notices so far.
    pub(crate) fn clear(&mut self) {
        self.0 = self.0.resubscribe();
    }
}

/// Tells all clients that an address, a topic or an inbox, has messages.
pub(crate) fn ring(address: &str) -> Statement {
    say(&ring_key(address), "")
}

pub(crate) fn ring_key(address: &str) -> String {
    format!("ring {address}")
}

/// Tells all clients of a key.
pub(crate) fn say(key: &str, text: &str) -> Statement {
    sqlx::query("SELECT pg_notify(current_schema(), $1)").bind(format!("{key}|{text}"))
}

async fn connect(host: &Host) -> Result<PgListener> {
    let connecting = async {
        // The client library demands that a listener takes its connection from a pool.
        let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(host.address.client());
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.eager_reconnect(false);
        listener.listen(&host.address.schema).await?;
        Ok(listener)
    };
    match timeout(host.address.patience, connecting).await {
        Ok(connected) => connected.map_err(|source| error::of("connect", source).of(&host.address)),
        Err(_) => Err(error::silent("connect").of(&host.address)),
    }
}

/// Passes notices on, and listens again when the connection is lost, until the broker is closed.
async fn hear(host: Host, mut first: Option<PgListener>, ears: Arc<Ears>) {
    for attempt in 1.. {
        let listening = async {
            let listener = match first.take() {
                Some(listener) => Ok(listener),
                None => connect(&host).await,
            };
            // Between two connections notices may have been lost.
            tell_deaf(&ears);
            match listener {
                Ok(listener) => pass_on(listener, host.address.patience, &ears).await,
                Err(error) => error,
            }
        };
        let lost = tokio::select! {
            () = host.closed() => return,
            lost = listening => lost,
        };
        tell_deaf(&ears);
        telemetry::reconnecting(SYSTEM, &lost, attempt);
        sleep(PAUSE).await;
    }
}

/// Ends when the connection is lost. A silent connection is checked now and then.
async fn pass_on(mut listener: PgListener, patience: Duration, ears: &Ears) -> Error {
    let mut ask_at = Instant::now() + patience / 4;
    loop {
        tokio::select! {
            notification = listener.try_recv() => match notification {
                Ok(Some(notice)) => tell(ears, notice.payload()),
                Ok(None) => return error::disconnected("listen"),
                Err(source) => return error::of("listen", source),
            },
            () = sleep_until(ask_at) => {
                match timeout(patience, sqlx::query("SELECT 1").execute(&mut listener)).await {
                    Ok(Ok(_)) => ask_at = Instant::now() + patience / 4,
                    Ok(Err(source)) => return error::of("listen", source),
                    Err(_) => return error::silent("listen"),
                }
            }
        }
    }
}

/// Passes a notice on to the ears for its key.
fn tell(ears: &Ears, notice: &str) {
    let Some((key, text)) = notice.split_once('|') else { return };
    let mut ears = ears.lock().unwrap_or_else(PoisonError::into_inner);
    if ears.get(key).is_some_and(|ear| ear.send(Notice::Said(text.to_owned())).is_err()) {
        ears.remove(key);
    }
}

/// Tells all listeners that notices were lost.
fn tell_deaf(ears: &Ears) {
    let mut ears = ears.lock().unwrap_or_else(PoisonError::into_inner);
    ears.retain(|_, ear| ear.send(Notice::Deaf).is_ok());
}

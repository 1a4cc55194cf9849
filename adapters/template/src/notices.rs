use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use partitura_adapter_kit::Backoff;
use partitura_broker::{Result, telemetry};
use sqlx::PgConnection;
use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::error;
use crate::session::Host;
use crate::template::SYSTEM;

/// How many notices may wait for each who hears them. Whoever missed some looks for itself.
const CAPACITY: usize = 256;

/// What the server tells all clients: that there is something to read, and what members say. One connection for each broker.
///
/// A notice is `KEY|TEXT`. Who wants to hear of a key has an [`Ear`] for it.
#[derive(Debug)]
pub(crate) struct Notices {
    ears: Arc<Ears>,
    listening: JoinHandle<()>,
}

type Ears = Mutex<HashMap<String, broadcast::Sender<Notice>>>;

/// What was heard.
#[derive(Debug, Clone)]
pub(crate) enum Notice {
    Said(String),
    /// Something may have been said that nobody heard.
    Deaf,
}

/// The place of one who hears of a key.
#[derive(Debug)]
pub(crate) struct Ear(broadcast::Receiver<Notice>);

impl Notices {
    pub(crate) async fn listen(host: &Host) -> Result<Self> {
        let listener = connect(host).await?;
        let ears = Arc::default();
        let listening = tokio::spawn(hear(host.clone(), listener, Arc::clone(&ears)));
        Ok(Self { ears, listening })
    }

    pub(crate) fn ear(&self, key: &str) -> Ear {
        let mut ears = self.ears.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = ears.entry(key.to_owned()).or_insert_with(|| broadcast::channel(CAPACITY).0);
        Ear(sender.subscribe())
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
            // The broker is gone, which everybody learns otherwise.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }

    /// Forgets what was heard so far.
    pub(crate) fn clear(&mut self) {
        self.0 = self.0.resubscribe();
    }
}

/// Tells all clients of a key.
pub(crate) async fn say(connection: &mut PgConnection, key: &str, text: &str) -> sqlx::Result<()> {
    let say = sqlx::query("SELECT pg_notify(current_schema(), $1)").bind(format!("{key}|{text}"));
    say.execute(connection).await.map(drop)
}

/// The key under which is said that there is something to read of a topic, or for an inbox.
pub(crate) fn ring(topic: &str) -> String {
    format!("ring {topic}")
}

/// Passes a notice on to those who have an ear for it.
fn tell(ears: &Ears, notice: &str) {
    let Some((key, text)) = notice.split_once('|') else { return };
    let mut ears = ears.lock().unwrap_or_else(PoisonError::into_inner);
    if ears.get(key).is_some_and(|ear| ear.send(Notice::Said(text.to_owned())).is_err()) {
        ears.remove(key);
    }
}

/// Tells everybody that something was missed.
fn tell_deaf(ears: &Ears) {
    let mut ears = ears.lock().unwrap_or_else(PoisonError::into_inner);
    ears.retain(|_, ear| ear.send(Notice::Deaf).is_ok());
}

async fn connect(host: &Host) -> Result<PgListener> {
    let connecting = async {
        // The client has it that a listener takes its connection out of a pool.
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

/// Passes on what is heard, and listens again when the connection is lost, until the broker is closed.
async fn hear(host: Host, listener: PgListener, ears: Arc<Ears>) {
    let mut listener = Some(listener);
    let mut attempt = 0;
    loop {
        let lost = match listener.take() {
            Some(listener) => {
                attempt = 0;
                tokio::select! {
                    () = host.closed() => return,
                    () = pass_on(listener, host.address.patience, &ears) => error::disconnected("listen"),
                }
            }
            None => match connect(&host).await {
                Ok(new) => {
                    // It may have missed something before it was there.
                    tell_deaf(&ears);
                    listener = Some(new);
                    continue;
                }
                Err(error) => error,
            },
        };
        tell_deaf(&ears);
        attempt += 1;
        telemetry::reconnecting(SYSTEM, &lost, attempt);
        tokio::select! {
            () = host.closed() => return,
            () = sleep(Backoff { longest: Duration::from_secs(2), ..Backoff::default() }.delay(attempt, 0)) => {}
        }
    }
}

/// Returns when the connection is lost. A silent one is asked now and then whether it still is one.
async fn pass_on(mut listener: PgListener, patience: Duration, ears: &Ears) {
    let mut ask_at = Instant::now() + patience / 4;
    loop {
        tokio::select! {
            notification = listener.try_recv() => match notification {
                Ok(Some(notice)) => tell(ears, notice.payload()),
                Ok(None) | Err(_) => return,
            },
            () = sleep_until(ask_at) => {
                let asked = timeout(patience, sqlx::query("SELECT 1").execute(&mut listener)).await;
                if !matches!(asked, Ok(Ok(_))) {
                    return;
                }
                ask_at = Instant::now() + patience / 4;
            }
        }
    }
}

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use partitura_broker::{Error, Result, telemetry};
use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::client::Client;
use crate::core::SYSTEM;
use crate::wire::Statement;
use crate::{error, names};

/// The number of notices that may wait for each listener. A listener that missed some asks the server.
const CAPACITY: usize = 256;
/// The wait before listening again.
const PAUSE: Duration = Duration::from_millis(500);

/// The notices of the server to all clients: news of messages, and the heartbeats of members. Each broker has one
/// connection for them.
///
/// A notice is `KEY|TEXT`. A [`NoticeReceiver`] gets the notices of its key.
#[derive(Debug)]
pub(crate) struct Notices {
    receivers: Arc<Receivers>,
    listening: JoinHandle<()>,
}

type Receivers = Mutex<HashMap<String, broadcast::Sender<Notice>>>;

#[derive(Debug, Clone)]
pub(crate) enum Notice {
    Text(String),
    /// Notices may have been lost.
    Missed,
}

/// Receives the notices of one key.
#[derive(Debug)]
pub(crate) struct NoticeReceiver(broadcast::Receiver<Notice>);

impl Notices {
    pub(crate) async fn listen(client: &Client) -> Result<Self> {
        let (listener, receivers) = (connect(client).await?, Arc::default());
        let listening = tokio::spawn(pass_all_on(client.clone(), Some(listener), Arc::clone(&receivers)));
        Ok(Self { receivers, listening })
    }

    pub(crate) fn receiver(&self, key: &str) -> NoticeReceiver {
        let mut receivers = self.receivers.lock().unwrap_or_else(PoisonError::into_inner);
        NoticeReceiver(receivers.entry(key.to_owned()).or_insert_with(|| broadcast::channel(CAPACITY).0).subscribe())
    }
}

impl Drop for Notices {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl NoticeReceiver {
    /// Waits for the next notice.
    pub(crate) async fn next(&mut self) -> Notice {
        match self.0.recv().await {
            Ok(notice) => notice,
            Err(RecvError::Lagged(_)) => Notice::Missed,
            // The broker is gone, which all clients learn in another way.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }

    /// Drops the notices so far.
    pub(crate) fn clear(&mut self) {
        self.0 = self.0.resubscribe();
    }
}

/// Tells all clients that an address, a topic or an inbox, has messages.
pub(crate) fn announce(address: &str) -> Statement {
    notify(&names::message_notices(address), "")
}

/// Sends a notice to all receivers of a key.
pub(crate) fn notify(key: &str, text: &str) -> Statement {
    sqlx::query("SELECT pg_notify(current_schema(), $1)").bind(format!("{key}|{text}"))
}

async fn connect(client: &Client) -> Result<PgListener> {
    let connecting = async {
        // The client library demands that a listener takes its connection from a pool.
        let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(client.address.client_options());
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.eager_reconnect(false);
        listener.listen(&client.address.schema).await?;
        Ok(listener)
    };
    match timeout(client.address.request_timeout, connecting).await {
        Ok(connected) => connected.map_err(|source| error::classify("connect", source).of(&client.address)),
        Err(_) => Err(error::timed_out("connect").of(&client.address)),
    }
}

/// Passes notices on until the broker is closed. After a lost connection it listens again.
async fn pass_all_on(client: Client, mut first: Option<PgListener>, receivers: Arc<Receivers>) {
    for attempt in 1.. {
        let listening = async {
            let listener = match first.take() {
                Some(listener) => Ok(listener),
                None => connect(&client).await,
            };
            // Between two connections notices may have been lost.
            pass_missed_on(&receivers);
            match listener {
                Ok(listener) => pass_until_lost(listener, client.address.request_timeout, &receivers).await,
                Err(error) => error,
            }
        };
        let lost = tokio::select! {
            () = client.closed() => return,
            lost = listening => lost,
        };
        pass_missed_on(&receivers);
        telemetry::reconnecting(SYSTEM, &lost, attempt);
        sleep(PAUSE).await;
    }
}

/// Passes notices on until the connection is lost. A silent connection is checked now and then.
async fn pass_until_lost(mut listener: PgListener, request_timeout: Duration, receivers: &Receivers) -> Error {
    let mut check_at = Instant::now() + request_timeout / 4;
    loop {
        tokio::select! {
            notification = listener.try_recv() => match notification {
                Ok(Some(notice)) => pass_on(receivers, notice.payload()),
                Ok(None) => return error::disconnected("listen"),
                Err(source) => return error::classify("listen", source),
            },
            () = sleep_until(check_at) => {
                match timeout(request_timeout, sqlx::query("SELECT 1").execute(&mut listener)).await {
                    Ok(Ok(_)) => check_at = Instant::now() + request_timeout / 4,
                    Ok(Err(source)) => return error::classify("listen", source),
                    Err(_) => return error::timed_out("listen"),
                }
            }
        }
    }
}

/// Passes a notice on to the receivers of its key.
fn pass_on(receivers: &Receivers, notice: &str) {
    let Some((key, text)) = notice.split_once('|') else { return };
    let mut receivers = receivers.lock().unwrap_or_else(PoisonError::into_inner);
    if receivers.get(key).is_some_and(|receivers| receivers.send(Notice::Text(text.to_owned())).is_err()) {
        receivers.remove(key);
    }
}

/// Tells all receivers that notices may have been lost.
fn pass_missed_on(receivers: &Receivers) {
    let mut receivers = receivers.lock().unwrap_or_else(PoisonError::into_inner);
    receivers.retain(|_, receivers| receivers.send(Notice::Missed).is_ok());
}

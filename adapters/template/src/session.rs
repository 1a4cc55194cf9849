use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use partitura_broker::Result;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{Connection, PgConnection, Postgres};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};

use crate::error;
use crate::options::Address;

/// A statement with its arguments.
pub(crate) type Statement = Query<'static, Postgres, PgArguments>;

/// The part of the broker's state that every connection needs.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    pub(crate) address: Arc<Address>,
    /// Whether the broker was closed.
    pub(crate) closing: watch::Sender<bool>,
    /// No receiver is left once every session has ended.
    pub(crate) running: watch::Sender<()>,
}

impl Host {
    pub(crate) fn new(address: Address) -> Self {
        Self { address: Arc::new(address), closing: watch::Sender::new(false), running: watch::Sender::new(()) }
    }

    pub(crate) fn is_closed(&self) -> bool {
        *self.closing.borrow()
    }

    /// Waits until the broker is closed.
    pub(crate) async fn closed(&self) {
        // The sender is our own, so it exists.
        let _ = self.closing.subscribe().wait_for(|closed| *closed).await;
    }
}

/// A connection, and the one task that uses it, so that dropping a future that waits for an answer interrupts nothing.
///
/// Statements are carried out in the order of their requests. The first one that fails or has no answer in time ends
/// the session: the connection is closed and never revived, and the statements after it fail. The server then drops
/// every lock of the session, and with them its claims. Without requests, a session shows now and then that it lives.
pub(crate) struct Session {
    host: Host,
    /// This channel has no bound of its own. The window of producers and the credit of consumers bound it.
    jobs: mpsc::UnboundedSender<Job>,
}

struct Job {
    operation: &'static str,
    statement: Statement,
    reply: oneshot::Sender<Result<Vec<PgRow>>>,
}

/// The future result of a statement.
#[derive(Debug)]
pub(crate) struct Answer {
    operation: &'static str,
    host: Host,
    rows: oneshot::Receiver<Result<Vec<PgRow>>>,
}

impl Session {
    pub(crate) async fn open(host: &Host, operation: &'static str) -> Result<Arc<Self>> {
        if host.is_closed() {
            return Err(error::closed(operation));
        }
        Ok(Self::over(host, host.address.connect(operation).await?))
    }

    /// Makes a session over an open connection.
    pub(crate) fn over(host: &Host, connection: PgConnection) -> Arc<Self> {
        let running = host.running.subscribe();
        let (jobs, asked) = mpsc::unbounded_channel();
        let serving = serve(connection, asked, host.clone());
        tokio::spawn(async move {
            serving.await;
            drop(running);
        });
        Arc::new(Self { host: host.clone(), jobs })
    }

    /// Asks to carry out a statement after the previous ones, also if no caller waits for the answer.
    pub(crate) fn ask(&self, operation: &'static str, statement: Statement) -> Answer {
        let (reply, rows) = oneshot::channel();
        // If the session has ended, the answer is that error.
        let _ = self.jobs.send(Job { operation, statement, reply });
        Answer { operation, host: self.host.clone(), rows }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.jobs.is_closed()
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(&self) {
        self.jobs.closed().await;
    }
}

impl Answer {
    /// Waits for it.
    pub(crate) async fn arrive(mut self) -> Result<Vec<PgRow>> {
        self.wait().await
    }

    /// Waits for the result, which comes once. Dropping the future loses nothing: call it again.
    pub(crate) async fn wait(&mut self) -> Result<Vec<PgRow>> {
        match (&mut self.rows).await {
            Ok(rows) => rows,
            Err(_) if self.host.is_closed() => Err(error::closed(self.operation)),
            Err(_) => Err(error::disconnected(self.operation)),
        }
    }
}

/// Serves until a statement fails, no caller is left, or the broker is closed. In the last two cases earlier requests
/// are still carried out.
async fn serve(mut connection: PgConnection, mut jobs: mpsc::UnboundedReceiver<Job>, host: Host) {
    let patience = host.address.patience;
    let mut open = true;
    loop {
        tokio::select! {
            biased;
            job = jobs.recv() => {
                let Some(Job { operation, statement, reply }) = job else { break };
                let rows = match timeout(patience, statement.fetch_all(&mut connection)).await {
                    Ok(rows) => rows.map_err(|source| error::of(operation, source)),
                    Err(_) => Err(error::silent(operation)),
                };
                let has_failed = rows.is_err();
                // The caller may have gone.
                let _ = reply.send(rows);
                if has_failed {
                    // Dropping the connection closes it, also during a statement.
                    return;
                }
            }
            () = host.closed(), if open => {
                open = false;
                jobs.close();
            }
            () = sleep(patience / 4) => match timeout(patience, connection.ping()).await {
                Ok(Ok(())) => {}
                _ => return,
            },
        }
    }
    let _ = timeout(Duration::from_secs(1), connection.close()).await;
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("address", &self.host.address).finish_non_exhaustive()
    }
}

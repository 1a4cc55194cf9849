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

/// What every connection needs to know of its broker.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    pub(crate) address: Arc<Address>,
    /// Whether the broker was closed.
    pub(crate) closing: watch::Sender<bool>,
    /// Nobody listens to it once every session has ended.
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
        // The sender is our own, so it cannot be gone.
        let _ = self.closing.subscribe().wait_for(|closed| *closed).await;
    }
}

/// A connection, and a task that alone speaks on it, so that dropping whoever waits for an answer interrupts nothing.
///
/// Statements are carried out in the order in which they were asked for. The first that fails or has no answer in time ends the
/// session: the connection is closed and never revived, the statements behind it fail, and the server drops every lock
/// that it held, on which ownership rests. When there is nothing to ask, a session says now and then that it is there.
pub(crate) struct Session {
    host: Host,
    /// Unbounded, and yet bounded: by the window of producers, by the credit of consumers.
    jobs: mpsc::UnboundedSender<Job>,
}

struct Job {
    operation: &'static str,
    statement: Statement,
    reply: oneshot::Sender<Result<Vec<PgRow>>>,
}

/// What will have come of a statement.
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

    /// A session over a connection that is there.
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

    /// Asks for a statement to be carried out after those before it, whether anybody waits for the answer or not.
    pub(crate) fn ask(&self, operation: &'static str, statement: Statement) -> Answer {
        let (reply, rows) = oneshot::channel();
        // Of a session that has ended, the answer says so.
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

    /// Waits for it, once. Dropping the future loses nothing: call it again.
    pub(crate) async fn wait(&mut self) -> Result<Vec<PgRow>> {
        match (&mut self.rows).await {
            Ok(rows) => rows,
            Err(_) if self.host.is_closed() => Err(error::closed(self.operation)),
            Err(_) => Err(error::disconnected(self.operation)),
        }
    }
}

/// Until something fails, nobody is left who could ask, or the broker is closed; then what was asked for before is still done.
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
                // Whoever asked may have gone.
                let _ = reply.send(rows);
                if has_failed {
                    // Dropping the connection closes it, whatever is still under way in it.
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

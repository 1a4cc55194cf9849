use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use partitura_broker::Result;
use sqlx::postgres::PgRow;
use sqlx::{ConnectOptions, Connection, PgConnection};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};

use crate::error;
use crate::options::Address;
use crate::wire::Statement;

/// The state that all connections of one broker share.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) address: Arc<Address>,
    /// Becomes true when the broker is closed.
    pub(crate) closing: watch::Sender<bool>,
    /// No receiver is left once every session has ended.
    pub(crate) running: watch::Sender<()>,
}

impl Client {
    pub(crate) fn new(address: Address) -> Self {
        Self { address: Arc::new(address), closing: watch::Sender::new(false), running: watch::Sender::new(()) }
    }

    /// Opens a connection of the client library, with the tables on its search path.
    pub(crate) async fn connect(&self, operation: &'static str) -> Result<PgConnection> {
        match timeout(self.address.request_timeout, self.address.client_options().connect()).await {
            Ok(connected) => connected.map_err(|source| error::classify(operation, source).of(&self.address)),
            Err(_) => Err(error::timed_out(operation).of(&self.address)),
        }
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
/// every lock of the session, and with them its claims. A session without requests pings the server, which would
/// otherwise end it.
pub(crate) struct Session {
    client: Client,
    /// This channel has no bound of its own. The window of producers and the credit of consumers bound it.
    jobs: mpsc::UnboundedSender<Job>,
}

struct Job {
    operation: &'static str,
    statement: Statement,
    reply: oneshot::Sender<Result<Vec<PgRow>>>,
}

/// The result of a statement that was asked for.
#[derive(Debug)]
pub(crate) struct Answer {
    operation: &'static str,
    client: Client,
    rows: oneshot::Receiver<Result<Vec<PgRow>>>,
}

impl Session {
    pub(crate) async fn open(client: &Client, operation: &'static str) -> Result<Arc<Self>> {
        if client.is_closed() {
            return Err(error::closed(operation));
        }
        Ok(Self::start(client, client.connect(operation).await?))
    }

    /// Starts a session on an open connection.
    pub(crate) fn start(client: &Client, connection: PgConnection) -> Arc<Self> {
        let running = client.running.subscribe();
        let (jobs, asked) = mpsc::unbounded_channel();
        let serving = serve(connection, asked, client.clone());
        tokio::spawn(async move {
            serving.await;
            drop(running);
        });
        Arc::new(Self { client: client.clone(), jobs })
    }

    /// Asks to carry out a statement after the previous ones, also if no caller waits for the answer.
    pub(crate) fn ask(&self, operation: &'static str, statement: Statement) -> Answer {
        let (reply, rows) = oneshot::channel();
        // If the session has ended, the answer is that error.
        let _ = self.jobs.send(Job { operation, statement, reply });
        Answer { operation, client: self.client.clone(), rows }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.jobs.is_closed()
    }

    /// Waits until the session has ended.
    pub(crate) async fn ended(&self) {
        self.jobs.closed().await;
    }
}

impl Answer {
    /// Waits for the result.
    pub(crate) async fn arrive(mut self) -> Result<Vec<PgRow>> {
        self.wait().await
    }

    /// Waits for the result, which comes once. Dropping the future loses nothing: call it again.
    pub(crate) async fn wait(&mut self) -> Result<Vec<PgRow>> {
        match (&mut self.rows).await {
            Ok(rows) => rows,
            Err(_) if self.client.is_closed() => Err(error::closed(self.operation)),
            Err(_) => Err(error::disconnected(self.operation)),
        }
    }
}

/// Serves until a statement fails, no caller is left, or the broker is closed. In the last two cases earlier requests
/// are still carried out.
async fn serve(mut connection: PgConnection, mut jobs: mpsc::UnboundedReceiver<Job>, client: Client) {
    let request_timeout = client.address.request_timeout;
    let mut is_open = true;
    loop {
        tokio::select! {
            biased;
            job = jobs.recv() => {
                let Some(Job { operation, statement, reply }) = job else { break };
                let rows = match timeout(request_timeout, statement.fetch_all(&mut connection)).await {
                    Ok(rows) => rows.map_err(|source| error::classify(operation, source)),
                    Err(_) => Err(error::timed_out(operation)),
                };
                let has_failed = rows.is_err();
                // The caller may have gone.
                let _ = reply.send(rows);
                if has_failed {
                    // Dropping the connection closes it, also during a statement.
                    return;
                }
            }
            () = client.closed(), if is_open => {
                is_open = false;
                jobs.close();
            }
            () = sleep(request_timeout / 4) => match timeout(request_timeout, connection.ping()).await {
                Ok(Ok(())) => {}
                _ => return,
            },
        }
    }
    let _ = timeout(Duration::from_secs(1), connection.close()).await;
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("address", &self.client.address).finish_non_exhaustive()
    }
}

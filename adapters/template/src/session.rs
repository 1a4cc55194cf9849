use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use partitura_broker::Result;
use sqlx::{Connection, PgConnection};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};

use crate::error;
use crate::options::Address;

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
/// Jobs are done in the order in which they were asked for. The first that fails or has no answer in time ends the session: the
/// connection is closed and never revived, the jobs behind it fail, and the server drops every lock that it held. The
/// latter is what ownership rests on. Without jobs a session says now and then that it is there.
pub(crate) struct Session {
    host: Host,
    /// Unbounded, and yet bounded: by the window of producers, by the credit of consumers.
    jobs: mpsc::UnboundedSender<Job>,
}

/// Says whether the connection is still good.
type Job = Box<dyn for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, bool> + Send>;

/// What will have come of a job.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    operation: &'static str,
    host: Host,
    answer: oneshot::Receiver<Result<T>>,
}

impl Session {
    pub(crate) async fn open(host: &Host, operation: &'static str) -> Result<Self> {
        if host.is_closed() {
            return Err(error::closed(operation));
        }
        let running = host.running.subscribe();
        let connection = host.address.connect(operation).await?;
        let (jobs, asked) = mpsc::unbounded_channel();
        let serving = serve(connection, asked, host.clone());
        tokio::spawn(async move {
            serving.await;
            drop(running);
        });
        Ok(Self { host: host.clone(), jobs })
    }

    /// Asks for a job to be done after those before it, whether anybody waits for the answer or not.
    pub(crate) fn ask<T, W>(&self, operation: &'static str, work: W) -> Answer<T>
    where
        T: Send + 'static,
        W: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, sqlx::Result<T>> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let patience = self.host.address.patience;
        let job: Job = Box::new(move |connection| {
            Box::pin(async move {
                let result = match timeout(patience, work(connection)).await {
                    Ok(done) => done.map_err(|source| error::of(operation, source)),
                    Err(_) => Err(error::silent(operation)),
                };
                let is_good = result.is_ok();
                let _ = reply.send(result);
                is_good
            })
        });
        // Of a session that has ended, the answer says so.
        let _ = self.jobs.send(job);
        Answer { operation, host: self.host.clone(), answer }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.jobs.is_closed()
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(&self) {
        self.jobs.closed().await;
    }
}

impl<T> Answer<T> {
    /// Waits for it.
    pub(crate) async fn arrive(mut self) -> Result<T> {
        self.wait().await
    }

    /// Waits for it, once. Dropping the future loses nothing: call it again.
    pub(crate) async fn wait(&mut self) -> Result<T> {
        match (&mut self.answer).await {
            Ok(answer) => answer,
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
                let Some(job) = job else { break };
                if !job(&mut connection).await {
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

//! One connection that writes. It is made again after it broke.

use std::time::Duration;

use partitura_broker::{Error, ErrorKind, Result};
use partitura_engine::{Ids, SystemIds};
use sqlx::{ConnectOptions, Connection, PgConnection};
use tokio::time::{Instant, sleep, timeout};

use crate::batch::{Batch, Columns, Refusal};
use crate::error;
use crate::options::Address;
use crate::statement::Statements;

/// The number of times that a statement is sent again if concurrent writes undo it.
const RETRIES: u32 = 8;
/// The wait before a lost answer is asked for again.
const BEFORE_ASKING_AGAIN: Duration = Duration::from_millis(100);

/// The server and the statements.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) address: Address,
    pub(crate) statements: Statements,
    pub(crate) request_timeout: Duration,
}

impl Target {
    /// A connection that writes durably.
    pub(crate) async fn connect(&self) -> Result<PgConnection> {
        let connect = async {
            let mut connection = self.address.0.connect().await?;
            // Weaker settings are raised to this one. Stricter settings are the administrator's choice, and are kept.
            let settings = "SELECT current_setting('plan_cache_mode', true) = 'force_generic_plan',
                                   CASE WHEN current_setting('synchronous_commit') IN ('off', 'local')
                                        THEN set_config('synchronous_commit', 'on', false) END";
            let (has_session, _): (Option<bool>, Option<String>) =
                sqlx::query_as(settings).fetch_one(&mut connection).await?;
            Ok((connection, has_session.unwrap_or_default()))
        };
        match timeout(self.request_timeout, connect).await {
            Ok(Ok((connection, true))) => Ok(connection),
            Ok(Ok((_, false))) => Err(error::without_session().of(&self.address)),
            Ok(Err(source)) => Err(error::from_sqlx("connect", source).of(&self.address)),
            Err(_) => Err(silent(ErrorKind::Disconnected, "connect", self.request_timeout).of(&self.address)),
        }
    }
}

/// A connection, or none yet, and the receipts for its batches.
#[derive(Debug)]
pub(crate) struct Writer {
    connection: Option<PgConnection>,
    /// The key of its row of receipts. It is its own for ever.
    id: String,
    /// The number of the last batch that was sent. A batch that is sent again gets a new one.
    batch: i64,
}

/// The answer of the server to a batch.
enum Answer {
    /// The places of the first put of each refused group. The others are written.
    Written(Vec<i64>),
    /// Nothing was written, and nothing will be: it may be sent again.
    NotWritten,
}

impl Default for Writer {
    fn default() -> Self {
        Self { connection: None, id: SystemIds.fresh().to_string(), batch: 0 }
    }
}

impl Writer {
    pub(crate) fn over(connection: PgConnection) -> Self {
        Self { connection: Some(connection), ..Self::default() }
    }

    /// Writes a batch, and answers all callers.
    pub(crate) async fn write(&mut self, target: &Target, batch: Batch) {
        match self.try_write(target, &batch).await {
            Ok(refused) => batch.written(refused),
            Err(error) => {
                tracing::warn!(%error, "writing a batch failed");
                batch.failed(error);
            }
        }
    }

    /// Returns the refused groups.
    async fn try_write(&mut self, target: &Target, batch: &Batch) -> Result<Vec<Refusal>> {
        let columns = batch.columns();
        for attempt in 0..=RETRIES {
            match self.send(target, &columns).await? {
                Answer::Written(places) => {
                    return Ok(places.into_iter().filter_map(|place| columns.refusal(place)).collect());
                }
                Answer::NotWritten => tracing::debug!(attempt, "sending the batch again, since nothing was written"),
            }
        }
        let message = "other writers undid it again and again; nothing was written";
        Err(Error::new(ErrorKind::Storage, "write", message).of(&target.address))
    }

    /// Sends the batch once. If its answer is lost, asks for it.
    async fn send(&mut self, target: &Target, columns: &Columns<'_>) -> Result<Answer> {
        // The connection is kept again only when it is known to be intact, also if this future is dropped.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => target.connect().await?,
        };
        self.batch += 1;
        let query = sqlx::query_scalar::<_, i64>(&target.statements.write)
            .bind(&columns.units)
            .bind(&columns.spaces)
            .bind(&columns.keys)
            .bind(&columns.expected)
            .bind(&columns.values)
            .bind(&self.id)
            .bind(self.batch);
        let lost = match timeout(target.request_timeout, query.fetch_all(&mut connection)).await {
            Ok(Ok(places)) if places.contains(&0) => {
                // The first batch of this writer.
                self.register(target, &mut connection).await?;
                self.connection = Some(connection);
                return Ok(Answer::NotWritten);
            }
            Ok(Ok(places)) => {
                self.connection = Some(connection);
                return Ok(Answer::Written(places));
            }
            Ok(Err(source)) if error::is_undone_by_others(&source) => {
                self.connection = Some(connection);
                return Ok(Answer::NotWritten);
            }
            Ok(Err(source)) if !error::is_broken(&source) => {
                self.connection = Some(connection);
                return Err(error::from_write(source).of(&target.address));
            }
            Ok(Err(source)) => error::from_write(source).of(&target.address),
            Err(_) => silent(ErrorKind::OutcomeUnknown, "write", target.request_timeout).of(&target.address),
        };
        drop(connection);
        self.resolve(target, lost).await
    }

    /// Adds the row of receipts. Batches that were sent before are given up.
    async fn register(&self, target: &Target, connection: &mut PgConnection) -> Result<()> {
        let query = sqlx::query(&target.statements.register).bind(&self.id).bind(self.batch);
        match timeout(target.request_timeout, query.execute(connection)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(source)) => Err(error::from_sqlx("write", source).of(&target.address)),
            Err(_) => Err(silent(ErrorKind::Disconnected, "write", target.request_timeout).of(&target.address)),
        }
    }

    /// Asks for the answer to the last batch, which the connection `lost`, for as long as a request may take.
    ///
    /// # Errors
    /// `lost` if there is no answer in this time.
    async fn resolve(&mut self, target: &Target, lost: Error) -> Result<Answer> {
        tracing::warn!(error = %lost, "asking for the answer to a batch");
        let until = Instant::now() + target.request_timeout;
        loop {
            match timeout(until.saturating_duration_since(Instant::now()), self.ask(target)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) if error.is_retryable() && Instant::now() + BEFORE_ASKING_AGAIN < until => {
                    tracing::debug!(%error, "asking again for the answer to a batch");
                    sleep(BEFORE_ASKING_AGAIN).await;
                }
                Ok(Err(_)) | Err(_) => return Err(lost),
            }
        }
    }

    /// Gives up the last batch unless it is written, and reads the answer to it.
    async fn ask(&mut self, target: &Target) -> Result<Answer> {
        let mut connection = target.connect().await?;
        let query = sqlx::query_as::<_, (bool, Vec<i64>)>(&target.statements.resolve).bind(&self.id).bind(self.batch);
        let found = query.fetch_optional(&mut connection).await;
        let found = found.map_err(|source| error::from_sqlx("write", source).of(&target.address))?;
        self.connection = Some(connection);
        // Without a row the batch was not written. Another batch adds the row, and gives up this one.
        Ok(match found {
            Some((true, refused)) => Answer::Written(refused),
            Some((false, _)) | None => Answer::NotWritten,
        })
    }

    /// Closes the connection without waiting for an answer.
    pub(crate) async fn close(self) {
        if let Some(connection) = self.connection {
            let _ = timeout(Duration::from_secs(1), connection.close()).await;
        }
    }
}

fn silent(kind: ErrorKind, operation: &'static str, timeout: Duration) -> Error {
    Error::new(kind, operation, format!("the server did not answer for {timeout:?}"))
}

//! One connection that writes. It is made again after it broke.

use std::time::Duration;

use partitura_broker::{Error, ErrorKind, Result};
use sqlx::{ConnectOptions, Connection, PgConnection};
use tokio::time::timeout;

use crate::batch::{Batch, Refusal};
use crate::error;
use crate::options::Address;
use crate::statement::Statements;

/// The number of times that a statement is sent again if concurrent writes undo it.
const RETRIES: u32 = 8;

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
            let durable = "SELECT set_config('synchronous_commit', 'on', false)
                           WHERE current_setting('synchronous_commit') IN ('off', 'local')";
            sqlx::query(durable).execute(&mut connection).await?;
            Ok(connection)
        };
        match timeout(self.request_timeout, connect).await {
            Ok(connected) => connected.map_err(|source| error::from_sqlx("connect", source).of(&self.address)),
            Err(_) => Err(silent(ErrorKind::Disconnected, "connect", self.request_timeout).of(&self.address)),
        }
    }
}

/// A connection, or none yet.
#[derive(Debug, Default)]
pub(crate) struct Writer(Option<PgConnection>);

impl Writer {
    pub(crate) fn over(connection: PgConnection) -> Self {
        Self(Some(connection))
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
        let mut attempt = 0;
        loop {
            // The connection is kept again only when it is known to be intact, also if this future is dropped.
            let mut connection = match self.0.take() {
                Some(connection) => connection,
                None => target.connect().await?,
            };
            let query = sqlx::query_scalar::<_, i64>(&target.statements.write)
                .bind(&columns.units)
                .bind(&columns.spaces)
                .bind(&columns.keys)
                .bind(&columns.expected)
                .bind(&columns.values);
            let answer = timeout(target.request_timeout, query.fetch_all(&mut connection)).await;
            let Ok(answer) = answer else {
                return Err(silent(ErrorKind::OutcomeUnknown, "write", target.request_timeout).of(&target.address));
            };
            match answer {
                Ok(places) => {
                    self.0 = Some(connection);
                    return Ok(places.into_iter().filter_map(|place| columns.refusal(place)).collect());
                }
                Err(source) if error::is_undone_by_others(&source) && attempt < RETRIES => {
                    self.0 = Some(connection);
                    attempt += 1;
                    tracing::debug!(%source, attempt, "sending the batch again, since others wrote the same keys");
                }
                Err(source) => {
                    if !error::is_broken(&source) {
                        self.0 = Some(connection);
                    }
                    return Err(error::from_write(source).of(&target.address));
                }
            }
        }
    }

    /// Closes the connection without waiting for an answer.
    pub(crate) async fn close(self) {
        if let Some(connection) = self.0 {
            let _ = timeout(Duration::from_secs(1), connection.close()).await;
        }
    }
}

fn silent(kind: ErrorKind, operation: &'static str, timeout: Duration) -> Error {
    Error::new(kind, operation, format!("the server did not answer for {timeout:?}"))
}

//! Group commit: while batches are on their way, the next one forms.

use std::sync::Arc;
use std::time::Duration;

use partitura_broker::{Error, ErrorKind, Result};
use sqlx::{ConnectOptions, Connection, PgConnection};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::batch::{Batch, Group};
use crate::error;
use crate::options::Address;
use crate::statement::Statements;

/// How often a statement is sent again that others' writes undid.
const OVERTAKEN: u32 = 8;

/// What every writer needs to know.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) address: Address,
    pub(crate) statements: Statements,
    pub(crate) patience: Duration,
}

impl Desk {
    /// Hands batches to the writers until there is nobody left to write for; then closes their connections.
    pub(crate) async fn serve(self: Arc<Self>, mut groups: mpsc::Receiver<Group>, writers: Vec<Writer>) {
        let all = writers.len();
        let (back, mut idle) = mpsc::channel(all.max(1));
        for writer in writers {
            // There is room for all of them.
            let _ = back.try_send(writer);
        }
        let mut held = None;
        loop {
            let next = match held.take() {
                Some(group) => Some(group),
                None => groups.recv().await,
            };
            let Some(first) = next else { break };
            let Some(mut writer) = idle.recv().await else { break };
            // Whatever came while all writers were away goes together.
            let mut batch = Batch::of(first);
            while let Ok(group) = groups.try_recv() {
                if let Err(group) = batch.try_add(group) {
                    held = Some(group);
                    break;
                }
            }
            let (desk, back) = (self.clone(), back.clone());
            tokio::spawn(async move {
                writer.write(&desk, batch).await;
                let _ = back.send(writer).await;
            });
        }
        for _ in 0..all {
            if let Some(writer) = idle.recv().await {
                writer.close().await;
            }
        }
    }

    /// A connection that writes durably.
    pub(crate) async fn connect(&self) -> Result<PgConnection> {
        let connect = async {
            let mut connection = self.address.0.connect().await?;
            // Nothing weaker than this; the stricter ones are the administrator's to choose.
            let durable = "SELECT set_config('synchronous_commit', 'on', false)
                           WHERE current_setting('synchronous_commit') IN ('off', 'local')";
            sqlx::query(durable).execute(&mut connection).await?;
            Ok(connection)
        };
        match timeout(self.patience, connect).await {
            Ok(connected) => connected.map_err(|source| error::of("connect", source).of(&self.address)),
            Err(_) => Err(silent(ErrorKind::Disconnected, "connect", self.patience).of(&self.address)),
        }
    }
}

/// One connection, made anew when it broke.
#[derive(Debug, Default)]
pub(crate) struct Writer(Option<PgConnection>);

impl Writer {
    pub(crate) fn over(connection: PgConnection) -> Self {
        Self(Some(connection))
    }

    async fn write(&mut self, desk: &Desk, batch: Batch) {
        match self.try_write(desk, &batch).await {
            Ok(refused) => batch.written(refused),
            Err(error) => {
                tracing::warn!(%error, "a batch was not written");
                batch.failed(error);
            }
        }
    }

    /// Gives the groups that were refused.
    async fn try_write(&mut self, desk: &Desk, batch: &Batch) -> Result<Vec<(i32, Error)>> {
        let columns = batch.columns();
        let mut attempt = 0;
        loop {
            // Kept again only when it is known to be whole, also should this future be dropped.
            let mut connection = match self.0.take() {
                Some(connection) => connection,
                None => desk.connect().await?,
            };
            let query = sqlx::query_scalar::<_, i64>(&desk.statements.write)
                .bind(&columns.units)
                .bind(&columns.spaces)
                .bind(&columns.keys)
                .bind(&columns.expected)
                .bind(&columns.values);
            let answer = timeout(desk.patience, query.fetch_all(&mut connection)).await;
            let Ok(answer) = answer else {
                return Err(silent(ErrorKind::OutcomeUnknown, "write", desk.patience).of(&desk.address));
            };
            match answer {
                Ok(places) => {
                    self.0 = Some(connection);
                    return Ok(places.into_iter().filter_map(|place| columns.refusal(place)).collect());
                }
                Err(source) if error::is_overtaken(&source) && attempt < OVERTAKEN => {
                    self.0 = Some(connection);
                    attempt += 1;
                    tracing::debug!(%source, attempt, "others wrote the same keys; the batch is sent again");
                }
                Err(source) => {
                    if !error::is_broken(&source) {
                        self.0 = Some(connection);
                    }
                    return Err(error::of_write(source).of(&desk.address));
                }
            }
        }
    }

    /// Says good-bye, for which there need not be an answer.
    pub(crate) async fn close(self) {
        if let Some(connection) = self.0 {
            let _ = timeout(Duration::from_secs(1), connection.close()).await;
        }
    }
}

fn silent(kind: ErrorKind, operation: &'static str, patience: Duration) -> Error {
    Error::new(kind, operation, format!("the server did not answer for {patience:?}"))
}

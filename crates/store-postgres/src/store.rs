use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::{join_all, try_join_all};
use partitura_broker::{Entry, Error, ErrorKind, Put, Result, ScanRange, Space, Timestamp, Version};
use partitura_engine::Store;
use sqlx::postgres::{PgPoolOptions, PgRow};
use sqlx::{PgPool, Row};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::batch::{self, Group};
use crate::options::{Address, Options};
use crate::statement::{self, Statements};
use crate::write_queue::WriteQueue;
use crate::writer::{Target, Writer};
use crate::{error, schema};

/// The largest number of groups that wait. A caller that writes more waits until there is space.
const WAITING: usize = 4_096;

/// The state of workflows, in tables of a Postgres database. It is cheap to clone. When the last clone is dropped,
/// pending groups are written and the connections closed.
#[derive(Clone)]
pub struct PostgresStore {
    target: Arc<Target>,
    groups: mpsc::Sender<Group>,
    readers: PgPool,
}

impl PostgresStore {
    /// Connects by URL: `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, with the parameters of libpq: `sslmode`
    /// (`verify-full` for all servers but those on this machine), `sslrootcert`, `sslcert`, `sslkey`; and `schema`.
    /// Creates the tables or verifies them; any number of processes may do so at once.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for the URL or the schema's name;
    /// [`Unauthorized`](ErrorKind::Unauthorized) for credentials, rights, and certificates;
    /// [`Disconnected`](ErrorKind::Disconnected) if no server answers; [`NotFound`](ErrorKind::NotFound) when it
    /// has no such database; [`Incompatible`](ErrorKind::Incompatible) for a server older than 12, for tables that a
    /// newer version wrote, and, without [`migrate`](Options::migrate), for old or missing ones.
    ///
    /// # Cancel safety
    /// Safe: tables are created in one transaction.
    pub async fn connect(url: &str, mut options: Options) -> Result<Self> {
        let address = Address::parse(url, &mut options)?;
        let statements = Statements::for_schema(&options.schema);
        let target = Arc::new(Target { address, statements, request_timeout: options.request_timeout });
        let mut first = target.connect().await?;
        schema::prepare(&mut first, &options).await?;

        // Only a connection that was idle for a while can be dead without notice: one that failed is not taken back.
        let readers = PgPoolOptions::new()
            .max_connections(options.readers.get())
            .acquire_timeout(options.request_timeout)
            .acquire_slow_threshold(options.request_timeout)
            .test_before_acquire(false)
            .before_acquire(|connection, about| {
                Box::pin(async move {
                    if about.idle_for.as_secs() > 0 {
                        sqlx::Connection::ping(connection).await?;
                    }
                    Ok(true)
                })
            })
            .connect_lazy_with(target.address.0.clone());
        let (groups, waiting) = mpsc::channel(WAITING);
        let mut writers = vec![Writer::over(first)];
        writers.resize_with(options.writers.get() as usize, Writer::default);
        tokio::spawn(WriteQueue::new(target.clone(), writers).serve(waiting));
        Ok(Self { target, groups, readers })
    }

    async fn read<T>(
        &self,
        operation: &'static str,
        read: impl Future<Output = Result<T, sqlx::Error>> + Send,
    ) -> Result<T> {
        match timeout(self.target.request_timeout, read).await {
            Ok(read) => read.map_err(|source| error::from_sqlx(operation, source).of(&self.target.address)),
            Err(_) => {
                let message = format!("the server did not answer for {:?}", self.target.request_timeout);
                Err(Error::new(ErrorKind::Timeout, operation, message).of(&self.target.address))
            }
        }
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn write(&self, groups: Vec<Vec<Put>>) -> Vec<Result<()>> {
        let mut answers = Vec::with_capacity(groups.len());
        for puts in groups {
            let (answer, answered) = oneshot::channel();
            answers.push(answered);
            match batch::check(&puts) {
                Ok(()) if puts.is_empty() => drop(answer.send(Ok(()))),
                Ok(()) => drop(self.groups.send(Group { puts, answer }).await),
                Err(refused) => drop(answer.send(Err(refused))),
            }
        }
        join_all(answers).await.into_iter().map(|answer| answer.unwrap_or_else(|_| Err(gone()))).collect()
    }

    async fn get(&self, space: Space, key: Bytes) -> Result<Option<(Version, Bytes)>> {
        let query = sqlx::query(&self.target.statements.get).bind(space).bind(&key[..]);
        self.read("get", async {
            let row = query.fetch_optional(&self.readers).await?;
            row.map(|row| Ok((version(&row, 0)?, bytes(&row, 1)?))).transpose()
        })
        .await
    }

    async fn scan(&self, range: ScanRange, limit: usize) -> Result<Vec<Entry>> {
        let ScanRange { space, from, to } = &range;
        let statements = &self.target.statements;
        let statement = if to.is_some() { &statements.scan } else { &statements.scan_to_the_end };
        let query = sqlx::query(statement).bind(space).bind(&from[..]).bind(i64::try_from(limit).unwrap_or(i64::MAX));
        let query = match to {
            Some(to) => query.bind(&to[..]),
            None => query,
        };
        self.read("scan", async {
            let rows = query.fetch_all(&self.readers).await?;
            let entry =
                |row: &PgRow| Ok(Entry { key: bytes(row, 0)?, version: version(row, 1)?, value: bytes(row, 2)? });
            rows.iter().map(entry).collect()
        })
        .await
    }

    async fn count(&self, range: ScanRange, limit: usize) -> Result<usize> {
        if range.to.is_some() {
            return Ok(self.count_each(vec![range], limit).await?.pop().unwrap_or_default());
        }
        let query = sqlx::query(&self.target.statements.count_to_the_end).bind(range.space).bind(&range.from[..]);
        let query = query.bind(i64::try_from(limit).unwrap_or(i64::MAX));
        self.read("count", async { count(&query.fetch_one(&self.readers).await?) }).await
    }

    async fn scan_each(&self, ranges: Vec<ScanRange>, limit: usize) -> Result<Vec<Vec<Entry>>> {
        let Some(Bounds { space, low, high }) = Bounds::of(&ranges) else {
            return try_join_all(ranges.into_iter().map(|range| self.scan(range, limit))).await;
        };
        let query = sqlx::query(&self.target.statements.scan_each).bind(space).bind(low);
        let query = query.bind(i64::try_from(limit).unwrap_or(i64::MAX)).bind(high);
        self.read("scan", async {
            let mut found: Vec<Vec<Entry>> = ranges.iter().map(|_| Vec::new()).collect();
            for row in query.fetch_all(&self.readers).await? {
                let place = usize::try_from(row.try_get::<i64, _>(0)?).unwrap_or(0);
                let entry = Entry { key: bytes(&row, 1)?, version: version(&row, 2)?, value: bytes(&row, 3)? };
                if let Some(of_range) = place.checked_sub(1).and_then(|place| found.get_mut(place)) {
                    of_range.push(entry);
                }
            }
            Ok(found)
        })
        .await
    }

    async fn count_each(&self, ranges: Vec<ScanRange>, limit: usize) -> Result<Vec<usize>> {
        let Some(Bounds { space, low, high }) = Bounds::of(&ranges) else {
            return try_join_all(ranges.into_iter().map(|range| self.count(range, limit))).await;
        };
        let query = sqlx::query(&self.target.statements.count_each).bind(space).bind(low);
        let query = query.bind(i64::try_from(limit).unwrap_or(i64::MAX)).bind(high);
        self.read("count", async { query.fetch_all(&self.readers).await?.iter().map(count).collect() }).await
    }

    async fn now(&self) -> Result<Option<Timestamp>> {
        self.read("read the clock", async {
            let row = sqlx::query(statement::NOW).fetch_one(&self.readers).await?;
            Ok(Some(Timestamp::from_millis(row.try_get::<i64, _>(0)?.unsigned_abs())))
        })
        .await
    }
}

impl fmt::Debug for PostgresStore {
    /// Without credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").field("address", &self.target.address).finish_non_exhaustive()
    }
}

fn version(row: &PgRow, column: usize) -> Result<Version, sqlx::Error> {
    row.try_get::<i64, _>(column).map(|version| version.unsigned_abs())
}

fn bytes(row: &PgRow, column: usize) -> Result<Bytes, sqlx::Error> {
    row.try_get::<Vec<u8>, _>(column).map(Bytes::from)
}

fn count(row: &PgRow) -> Result<usize, sqlx::Error> {
    Ok(usize::try_from(row.try_get::<i64, _>(0)?).unwrap_or(0))
}

/// The bounds of ranges that one statement reads.
struct Bounds<'r> {
    space: Space,
    low: Vec<&'r [u8]>,
    high: Vec<&'r [u8]>,
}

impl<'r> Bounds<'r> {
    /// `None`: the ranges are of several spaces, or one of them goes to the end.
    fn of(ranges: &'r [ScanRange]) -> Option<Self> {
        let space = ranges.first()?.space;
        let bounds = ranges.iter().map(|range| Some((&range.from[..], range.to.as_deref()?)));
        let (low, high) = bounds.collect::<Option<Vec<_>>>()?.into_iter().unzip();
        ranges.iter().all(|range| range.space == space).then_some(Self { space, low, high })
    }
}

/// The task that writes ends only with the runtime.
fn gone() -> Error {
    Error::new(ErrorKind::OutcomeUnknown, "write", "the runtime ended before the answer came")
}

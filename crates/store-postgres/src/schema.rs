//! The tables: created, brought up to date, or only verified.

use partitura_broker::{Error, ErrorKind, Result};
use sqlx::{Connection, Executor, PgConnection};

use crate::error;
use crate::options::Options;

/// Migrations: each one brings the tables from the version of its index to the next. A released one never changes.
///
/// Histories are appended and kept. Rows of the outbox live for milliseconds: they are vacuumed often, so that a scan
/// does not pass over many dead rows. Other spaces share one partition.
/// A writer has a row with the number of its last batch and the answer to it. It is replaced with each batch, in place.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE $schema.entry (
        space text COLLATE \"C\" NOT NULL,
        key bytea NOT NULL,
        version bigint NOT NULL,
        value bytea NOT NULL,
        PRIMARY KEY (space, key)
    ) PARTITION BY LIST (space);
    CREATE TABLE $schema.entry_history PARTITION OF $schema.entry FOR VALUES IN ('history');
    CREATE TABLE $schema.entry_outbox PARTITION OF $schema.entry FOR VALUES IN ('outbox')
        WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
    CREATE TABLE $schema.entry_other PARTITION OF $schema.entry DEFAULT;",
    "
    CREATE TABLE $schema.writer (
        id text COLLATE \"C\" PRIMARY KEY,
        batch bigint NOT NULL DEFAULT 0,
        refused bigint[] NOT NULL DEFAULT '{}',
        given_up bigint NOT NULL,
        at timestamptz NOT NULL DEFAULT now()
    ) WITH (fillfactor = 20);",
];

/// The oldest server whose SQL suffices.
const OLDEST_SERVER: i32 = 120_000;

/// Checks that the tables are those that this version works with.
pub(crate) async fn prepare(connection: &mut PgConnection, options: &Options) -> Result<()> {
    check_server(connection).await?;
    let schema = &options.schema;
    let found = version(connection, schema).await?;
    match found.cmp(&MIGRATIONS.len()) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Less if options.migrate => migrate(connection, schema).await,
        std::cmp::Ordering::Less => {
            let needed = MIGRATIONS.len();
            let message = format!("its tables are of version {found}, {needed} is needed; connect once with `migrate`");
            Err(incompatible(schema, message))
        }
        std::cmp::Ordering::Greater => Err(too_new(schema, found)),
    }
}

async fn check_server(connection: &mut PgConnection) -> Result<()> {
    let query = "SELECT current_setting('server_version_num')::int4, current_setting('server_version'),
                        current_setting('fsync') = 'on' AND current_setting('full_page_writes') = 'on'";
    let (number, name, is_safe): (i32, String, bool) =
        sqlx::query_as(query).fetch_one(connection).await.map_err(|source| error::from_sqlx("connect", source))?;
    if number < OLDEST_SERVER {
        let message = format!("this is Postgres {name}; 12 or newer is needed");
        return Err(Error::new(ErrorKind::Incompatible, "connect", message));
    }
    if !is_safe {
        tracing::warn!("the server runs without fsync or full_page_writes: a power failure can lose confirmed writes");
    }
    Ok(())
}

/// The number of applied migrations.
async fn version(connection: &mut PgConnection, schema: &str) -> Result<usize> {
    let read = async {
        // Reads the catalog itself: `to_regclass` may see a state that is older than a lock that was just granted.
        let exists =
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_tables WHERE schemaname = $1 AND tablename = 'migration')";
        let exists: bool = sqlx::query_scalar(exists).bind(schema).fetch_one(&mut *connection).await?;
        if !exists {
            return Ok(0);
        }
        let query = format!("SELECT coalesce(max(version), 0) FROM {schema}.migration");
        let version: i32 = sqlx::query_scalar(&query).fetch_one(connection).await?;
        Ok(usize::try_from(version).unwrap_or_default())
    };
    read.await.map_err(|source| error::from_sqlx("connect", source))
}

/// Migrates in one transaction. Processes migrate one after the other.
async fn migrate(connection: &mut PgConnection, schema: &str) -> Result<()> {
    let failed = |source| error::from_sqlx("migrate", source).of(format_args!("schema {schema}"));
    let mut transaction = connection.begin().await.map_err(failed)?;
    let lock = "SELECT pg_advisory_xact_lock(hashtextextended('partitura migrates ' || $1, 0))";
    sqlx::query(lock).bind(schema).execute(&mut *transaction).await.map_err(failed)?;
    // The previous owner of the lock may have migrated.
    let found = version(&mut transaction, schema).await?;
    let Some(missing) = MIGRATIONS.get(found..) else { return Err(too_new(schema, found)) };
    if found == 0 {
        let exists = "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)";
        let exists: bool =
            sqlx::query_scalar(exists).bind(schema).fetch_one(&mut *transaction).await.map_err(failed)?;
        // If an administrator created the schema, the role may not have the right to create it.
        let create = if exists { String::new() } else { format!("CREATE SCHEMA {schema};") };
        let table = "migration (version int4 PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now());";
        let create = format!("{create} CREATE TABLE IF NOT EXISTS {schema}.{table}");
        transaction.execute(create.as_str()).await.map_err(failed)?;
    }
    for (migration, version) in missing.iter().zip(found + 1..) {
        let migration = migration.replace("$schema", schema);
        transaction.execute(migration.as_str()).await.map_err(failed)?;
        let note = format!("INSERT INTO {schema}.migration (version) VALUES ({version})");
        transaction.execute(note.as_str()).await.map_err(failed)?;
    }
    transaction.commit().await.map_err(failed)
}

fn too_new(schema: &str, found: usize) -> Error {
    let known = MIGRATIONS.len();
    incompatible(schema, format!("its tables are of version {found}, this program knows up to {known}; update it"))
}

fn incompatible(schema: &str, message: String) -> Error {
    Error::new(ErrorKind::Incompatible, "connect", message).of(format_args!("schema {schema}"))
}

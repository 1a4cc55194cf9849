//! Connecting: tables that exist, are missing or are too new, and errors without secrets.

use partitura_broker::{ErrorKind, Expect};
use partitura_engine::Store;
use partitura_store_postgres::{Options, PostgresStore};
use sqlx::{Connection, PgConnection};
use tokio::task::JoinSet;

use crate::support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_number_of_processes_may_start_at_once() {
    let (url, schema) = (server_url().await, fresh_schema());
    let mut starting = JoinSet::new();
    for number in 0..12 {
        let (url, schema) = (url.clone(), schema.clone());
        starting.spawn(async move {
            let store = open(&url, &schema).await.expect("a store");
            write(&store, vec![put(format!("{number}"), Expect::Absent, Some("here"))]).await.expect("written");
        });
    }
    starting.join_all().await;
}

#[tokio::test]
async fn without_migrating_tables_are_only_verified() {
    let (url, schema) = (server_url().await, fresh_schema());
    let verify = || PostgresStore::connect(&url, Options::default().schema(&*schema).migrate(false));
    let missing = verify().await.expect_err("there are none");
    assert_eq!(missing.kind(), ErrorKind::Incompatible);
    assert!(missing.to_string().contains("`migrate`"), "{missing}");
    drop(open(&url, &schema).await.expect("a store"));
    verify().await.expect("now there are");
}

#[tokio::test]
async fn tables_of_a_newer_version_are_left_alone() {
    let (url, schema) = (server_url().await, fresh_schema());
    drop(open(&url, &schema).await.expect("a store"));
    let mut connection = PgConnection::connect(&url).await.expect("connected");
    let newer = format!("INSERT INTO {schema}.migration (version) VALUES (1000)");
    sqlx::query(&newer).execute(&mut connection).await.expect("inserted");
    let refused = open(&url, &schema).await.expect_err("too new");
    assert_eq!(refused.kind(), ErrorKind::Incompatible);
    assert!(refused.to_string().contains("1000") && refused.to_string().contains("update"), "{refused}");
}

#[tokio::test]
async fn errors_of_connecting_are_told_apart_and_leave_the_password_out() {
    let url = server_url().await;
    let (_, place) = url.rsplit_once('@').expect("a URL with a user");
    let (address, _) = place.split_once('/').expect("a URL with a database");
    for (url, kind) in [
        (format!("postgres://nobody_at_all:hidden@{place}"), ErrorKind::Unauthorized),
        (format!("{}/no_such_database", url.rsplit_once('/').expect("a path").0), ErrorKind::NotFound),
        ("postgres://ada:hidden@127.0.0.1:1/db".to_owned(), ErrorKind::Disconnected),
        (format!("postgres://ada:hidden@{address}/db?sslmode=perhaps"), ErrorKind::InvalidArgument),
    ] {
        let error = PostgresStore::connect(&url, Options::default()).await.expect_err("it cannot");
        assert_eq!(error.kind(), kind, "{error}");
        assert!(!format!("{error} {error:?}").contains("hidden"), "{error:?}");
    }
}

#[tokio::test]
async fn a_store_does_not_show_its_password() {
    let store = fresh().await;
    let shown = format!("{store:?}");
    assert!(shown.contains("127.0.0.1") && !shown.contains('@'), "{shown}");
}

#[tokio::test]
async fn a_store_tells_the_time_of_its_server() {
    let url = server_url().await;
    let store = open(&url, &fresh_schema()).await.expect("a store");
    let mut server = PgConnection::connect(&url).await.expect("connected");
    let mut asked = async || {
        let clock = sqlx::query_scalar::<_, f64>("SELECT extract(epoch FROM clock_timestamp())::float8");
        clock.fetch_one(&mut server).await.expect("a time")
    };
    let before = asked().await;
    let told = store.now().await.expect("an answer").expect("Postgres has a clock").as_millis() as f64 / 1_000.0;
    let after = asked().await;
    // Rounded down to the millisecond.
    assert!(before - 0.001 <= told && told <= after, "{told} is not from {before} to {after}");
    let later = store.now().await.expect("an answer").expect("Postgres has a clock");
    assert!(later.as_millis() as f64 / 1_000.0 >= told);
}

/// Version 1 of the tables, as the program of that version made and filled them. A released file never changes.
const VERSION_1: &str = include_str!("released/version_1.sql");

#[tokio::test]
async fn tables_of_each_earlier_version_are_brought_up_to_date_with_their_rows() {
    let (url, schema) = (server_url().await, fresh_schema());
    let mut connection = PgConnection::connect(&url).await.expect("connected");
    sqlx::raw_sql(&VERSION_1.replace("$schema", &schema)).execute(&mut connection).await.expect("made");
    let verified = PostgresStore::connect(&url, Options::default().schema(&*schema).migrate(false)).await;
    let refused = verified.expect_err("they are old");
    assert!(refused.to_string().contains("version 1, 2 is needed"), "{refused}");

    let store = open(&url, &schema).await.expect("a store");
    for (space, key, version, value) in
        [("history", "a", 1, "turn"), ("outbox", "b", 2, "message"), ("test", "c", 7, "value")]
    {
        let found = store.get(space, key.into()).await.expect("read");
        assert_eq!(found, Some((version, value.into())), "{space}");
    }
    let stale = write(&store, vec![put("c", Expect::Version(6), Some("new"))]).await.expect_err("another version");
    assert_eq!(stale.kind(), ErrorKind::Conflict);
    write(&store, vec![put("c", Expect::Version(7), Some("new"))]).await.expect("written");
    drop(store);

    // The tables are those that a new schema has.
    let fresh = fresh_schema();
    drop(open(&url, &fresh).await.expect("a store"));
    assert_eq!(tables(&mut connection, &schema).await, tables(&mut connection, &fresh).await);
}

/// Tables, columns, indexes and partitions of a schema, without its name.
async fn tables(connection: &mut PgConnection, schema: &str) -> Vec<String> {
    let all = "SELECT table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable || ' '
                      || coalesce(column_default, '') AS line
               FROM information_schema.columns WHERE table_schema = $1
               UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = $1
               UNION ALL SELECT relname || ' ' || coalesce(array_to_string(reloptions, ','), '') || ' '
                                || coalesce(pg_get_expr(relpartbound, oid), '')
               FROM pg_class WHERE relnamespace = $1::regnamespace
               ORDER BY line";
    let lines: Vec<String> = sqlx::query_scalar(all).bind(schema).fetch_all(connection).await.expect("read");
    lines.into_iter().map(|line| line.replace(schema, "")).collect()
}

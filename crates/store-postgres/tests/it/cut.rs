//! Connections break while a write is under way, and the store finds out whether it took place.

use std::time::Duration;

use partitura_broker::{ErrorKind, Expect};
use partitura_engine::Store;
use partitura_store_postgres::{Options, PostgresStore};
use sqlx::{Connection, Executor, PgConnection};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::proxy::{Cut, Proxy};
use crate::support::*;

const ROUNDS: u64 = 10;

/// A store with one writer, behind the proxy. It has written, so that its next write is a single request.
async fn behind(proxy: &Proxy, schema: &str, request_timeout: Duration) -> PostgresStore {
    let options = Options::default().schema(schema).writers(std::num::NonZeroU32::MIN).request_timeout(request_timeout);
    let store = PostgresStore::connect(&proxy.url(&server_url().await), options).await.expect("a store");
    for _ in 0..2 {
        write(&store, vec![put("warm", Expect::Any, Some("x"))]).await.expect("written");
    }
    store
}

/// Writes a group that is accepted and one that is refused, in one batch, while the connection is cut. Both answers are
/// known in the end, and the batch is written once.
async fn the_answer_is_found_out(cut: Cut) {
    let proxy = Proxy::start(&server_url().await).await;
    let store = behind(&proxy, &fresh_schema(), LIVENESS).await;
    write(&store, vec![put("taken", Expect::Absent, Some("x"))]).await.expect("written");
    for round in 1..=ROUNDS {
        let row = put(format!("row {round}"), Expect::Absent, Some("x"));
        let groups =
            vec![vec![row, put("count", Expect::Any, Some("x"))], vec![put("taken", Expect::Absent, Some("y"))]];
        proxy.arm(cut);
        let answers = timeout(LIVENESS, kinds(&store, groups)).await.expect("it hangs");
        assert!(proxy.has_cut(), "round {round}: the write was not cut");
        assert_eq!(answers, [None, Some(ErrorKind::Conflict)], "round {round}");
        let count = store.get(SPACE, "count".into()).await.expect("read").map(|(version, _)| version);
        assert_eq!(count, Some(round), "a batch was written twice, or not at all");
    }
}

#[tokio::test]
async fn a_write_that_never_reached_the_server_is_made() {
    the_answer_is_found_out(Cut::Request).await;
}

#[tokio::test]
async fn a_write_whose_connection_breaks_as_it_is_sent_is_made_once() {
    the_answer_is_found_out(Cut::Sent).await;
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_answered() {
    the_answer_is_found_out(Cut::Answer).await;
}

#[tokio::test]
async fn a_write_that_still_waits_in_the_server_is_given_up_before_it_is_made_again() {
    let (url, schema) = (server_url().await, fresh_schema());
    let proxy = Proxy::start(&url).await;
    let store = behind(&proxy, &schema, LIVENESS).await;
    let mut rival = PgConnection::connect(&url).await.expect("connected");
    let mut transaction = rival.begin().await.expect("begun");
    let lock = format!("SELECT FROM {schema}.entry WHERE key = 'warm' FOR UPDATE");
    transaction.execute(&*lock).await.expect("locked");
    proxy.arm(Cut::Sent);
    let writing = tokio::spawn({
        let store = store.clone();
        async move { write(&store, vec![put("warm", Expect::Version(2), Some("y"))]).await }
    });
    // The first statement, which nobody waits for, and the second one wait for the rival.
    let mut observer = PgConnection::connect(&url).await.expect("connected");
    let waiting = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%{schema}.writer SET batch%'"
    );
    let both = async {
        while sqlx::query_scalar::<_, i64>(&waiting).fetch_one(&mut observer).await.expect("a number") < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LIVENESS, both).await.expect("the store does not write again");
    transaction.rollback().await.expect("unlocked");
    timeout(LIVENESS, writing).await.expect("it hangs").expect("no panic").expect("written");
    assert_eq!(store.get(SPACE, "warm".into()).await.expect("read"), Some((3, "y".into())));
}

#[tokio::test]
async fn an_answer_that_nobody_can_give_in_time_is_unknown() {
    let proxy = Proxy::start(&server_url().await).await;
    let store = behind(&proxy, &fresh_schema(), Duration::from_secs(1)).await;
    proxy.refuse(true);
    proxy.arm(Cut::Answer);
    let error = write(&store, vec![put("a", Expect::Absent, Some("x"))]).await.expect_err("no server");
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
    proxy.refuse(false);
    write(&store, vec![put("b", Expect::Absent, Some("x"))]).await.expect("written");
}

/// The sessions of a store end again and again, as in a failover.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_write_is_answered_though_the_server_ends_the_sessions() {
    const WRITERS: u64 = 16;
    const WRITES: u64 = 300;
    let (url, schema) = (server_url().await, fresh_schema());
    let store = open(&url, &schema).await.expect("a store");
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let store = store.clone();
        writers.spawn(async move {
            for turn in 0..WRITES {
                let count = put(format!("count {writer}"), Expect::Any, Some("x"));
                let row = put(format!("row {writer} {turn}"), Expect::Absent, Some("x"));
                write(&store, vec![row, count]).await.expect("written");
            }
        });
    }
    let mut observer = PgConnection::connect(&url).await.expect("connected");
    let end = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
         WHERE pid <> pg_backend_pid() AND query LIKE '%{schema}.writer SET batch%'"
    );
    let mut ended = 0;
    while !writers.is_empty() {
        ended += sqlx::query_scalar::<_, i64>(&end).fetch_one(&mut observer).await.expect("ended");
        let soon = timeout(Duration::from_millis(50), writers.join_next());
        if let Ok(Some(done)) = soon.await {
            done.expect("all are written");
        }
    }
    assert!(ended > 0, "no session was ended");
    let again = open(&url, &schema).await.expect("a store");
    for writer in 0..WRITERS {
        let count = again.get(SPACE, format!("count {writer}").into()).await.expect("read").map(|(version, _)| version);
        assert_eq!(count, Some(WRITES), "a batch was written twice, or not at all");
    }
}

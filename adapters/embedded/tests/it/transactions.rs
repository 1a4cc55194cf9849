use bytes::Bytes;
use partitura_broker::{Broker, ErrorKind, Expect, Put, ScanRange, Transactions, Unit};

use crate::support::*;

fn put(key: &str, expect: Expect, value: Option<&str>) -> Put {
    Put { space: "test", key: bytes(key), expect, value: value.map(bytes) }
}

fn putting(puts: Vec<Put>) -> Unit {
    Unit { put: puts, ..Unit::default() }
}

async fn value(transactions: &dyn Transactions, key: &str) -> Option<(u64, Bytes)> {
    transactions.get("test", bytes(key)).await.unwrap()
}

async fn kinds(transactions: &dyn Transactions, units: Vec<Unit>) -> Vec<Option<ErrorKind>> {
    transactions.commit(units).await.into_iter().map(|result| result.err().map(|error| error.kind())).collect()
}

#[tokio::test]
async fn a_unit_settles_publishes_and_writes_together() {
    let directory = tempfile::tempdir().unwrap();
    let broker = file(&directory, &queue(by_key(1))).await;
    publish(&broker, vec![message("k", 1)]).await;
    let mut consumer = broker.consumer(options()).await.unwrap();
    let held = receive(&mut consumer, 1).await;
    let unit = Unit {
        settle: tokens(&held),
        publish: vec![message("k", 2), message("k", 3)],
        put: vec![put("a", Expect::Absent, Some("x"))],
    };
    let transactions = broker.transactions().unwrap();
    assert_eq!(kinds(transactions, vec![unit]).await, [None]);
    assert_eq!(value(transactions, "a").await, Some((1, bytes("x"))));
    assert_eq!(texts(&receive(&mut consumer, 2).await), ["2", "3"]);
    drop((consumer, broker));
    let broker = file(&directory, &queue(by_key(1))).await;
    assert_eq!(value(broker.transactions().unwrap(), "a").await, Some((1, bytes("x"))));
    assert_eq!(texts(&receive(&mut broker.consumer(options()).await.unwrap(), 2).await), ["2", "3"]);
}

#[tokio::test]
async fn a_unit_that_fails_leaves_nothing_behind_and_the_others_alone() {
    let broker = memory(&queue(by_key(1))).await;
    publish(&broker, vec![message("k", 1)]).await;
    let mut consumer = broker.consumer(options()).await.unwrap();
    let held = receive(&mut consumer, 1).await;
    let transactions = broker.transactions().unwrap();
    assert_eq!(kinds(transactions, vec![putting(vec![put("taken", Expect::Any, Some("old"))])]).await, [None]);

    let mut unknown = message("k", 7);
    unknown.topic = topic("nowhere");
    let fails = |puts| Unit { settle: tokens(&held), publish: vec![message("k", 9)], put: puts };
    let units = vec![
        putting(vec![put("first", Expect::Absent, Some("1"))]),
        fails(vec![put("b", Expect::Absent, Some("2")), put("taken", Expect::Absent, Some("2"))]),
        fails(vec![put("c", Expect::Any, Some("2")), put("taken", Expect::Version(7), Some("2"))]),
        fails(vec![put("taken", Expect::Any, None), put("missing", Expect::Version(1), None)]),
        fails(vec![put("d", Expect::Any, Some("1")), put("d", Expect::Any, Some("2"))]),
        Unit { publish: vec![message("k", 8), unknown], ..Unit::default() },
        // Sees the first, and settles the deliveries that the failing ones did not.
        Unit { settle: tokens(&held), put: vec![put("first", Expect::Version(1), Some("2"))], ..Unit::default() },
        Unit { settle: tokens(&held), put: vec![put("e", Expect::Absent, Some("1"))], ..Unit::default() },
    ];
    let expected = [
        None,
        Some(ErrorKind::Conflict),
        Some(ErrorKind::Conflict),
        Some(ErrorKind::Conflict),
        Some(ErrorKind::InvalidArgument),
        Some(ErrorKind::NotFound),
        None,
        Some(ErrorKind::Fenced),
    ];
    assert_eq!(kinds(transactions, units).await, expected);
    assert_eq!(value(transactions, "first").await, Some((2, bytes("2"))));
    assert_eq!(value(transactions, "taken").await, Some((1, bytes("old"))));
    for key in ["b", "c", "d", "e"] {
        assert_eq!(value(transactions, key).await, None, "{key}");
    }
    nothing(&mut consumer).await;
    drop(consumer);
    nothing(&mut broker.consumer(options()).await.unwrap()).await;
}

#[tokio::test]
async fn of_two_that_expect_the_same_version_one_wins() {
    let directory = tempfile::tempdir().unwrap();
    let broker = file(&directory, &queue(by_key(1))).await;
    let transactions = broker.transactions().unwrap();
    for round in 0..20 {
        let expect = if round == 0 { Expect::Absent } else { Expect::Version(round) };
        let units = || vec![putting(vec![put("counter", expect, Some("x"))])];
        let (a, b) = tokio::join!(kinds(transactions, units()), kinds(transactions, units()));
        let mut both = [a[0], b[0]];
        both.sort_by_key(Option::is_some);
        assert_eq!(both, [None, Some(ErrorKind::Conflict)]);
    }
    assert_eq!(value(transactions, "counter").await.map(|(version, _)| version), Some(20));
}

#[tokio::test]
async fn a_settled_delivery_is_fenced_also_before_the_settlement_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let broker = file(&directory, &queue(by_key(1))).await;
    publish(&broker, vec![message("k", 1)]).await;
    let mut consumer = broker.consumer(options()).await.unwrap();
    let held = receive(&mut consumer, 1).await;
    consumer.settle(&tokens(&held));
    let unit = Unit { settle: tokens(&held), ..Unit::default() };
    assert_eq!(kinds(broker.transactions().unwrap(), vec![unit]).await, [Some(ErrorKind::Fenced)]);
}

#[tokio::test]
async fn a_scan_reads_a_range_in_order_and_can_be_continued() {
    let directory = tempfile::tempdir().unwrap();
    let broker = file(&directory, &queue(by_key(1))).await;
    let transactions = broker.transactions().unwrap();
    let keys = ["b/2", "a", "b/1", "b/3", "c", "b/10"];
    let puts = keys.iter().map(|key| put(key, Expect::Absent, Some(key))).collect();
    assert_eq!(kinds(transactions, vec![putting(puts)]).await, [None]);
    let range = ScanRange::prefix("test", "b/");
    let scan = async |range, limit| {
        let entries = transactions.scan(range, limit).await.unwrap();
        entries.into_iter().map(|entry| String::from_utf8(entry.key.to_vec()).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(scan(range.clone(), 100).await, ["b/1", "b/10", "b/2", "b/3"]);
    assert_eq!(scan(range.clone(), 2).await, ["b/1", "b/10"]);
    assert_eq!(scan(range.after(b"b/10"), 100).await, ["b/2", "b/3"]);
    let all = ScanRange { space: "test", from: Bytes::new(), to: None };
    assert_eq!(scan(all, 100).await.len(), 6);
    assert_eq!(scan(ScanRange::prefix("other", ""), 100).await.len(), 0);
    assert_eq!(kinds(transactions, vec![putting(vec![put("a", Expect::Version(1), None)])]).await, [None]);
    assert_eq!(value(transactions, "a").await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_see_every_commit_that_was_answered() {
    let directory = tempfile::tempdir().unwrap();
    let broker = file(&directory, &queue(by_key(1))).await;
    let tasks = (0..8).map(|task| {
        let broker = broker.clone();
        tokio::spawn(async move {
            let transactions = broker.transactions().unwrap();
            for i in 0..50_u64 {
                let key = format!("k{task}");
                let unit = putting(vec![put(&key, Expect::Any, Some(&i.to_string()))]);
                assert_eq!(kinds(transactions, vec![unit]).await, [None]);
                assert_eq!(value(transactions, &key).await, Some((i + 1, bytes(&i.to_string()))));
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

//! After any writes the store answers as the embedded one does, which is the reference.

use std::sync::Arc;

use bytes::Bytes;
use partitura_broker::{ErrorKind, Expect, Put, ScanRange};
use partitura_embedded::Embedded;
use partitura_engine::{BrokerStore, Store};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::support::*;

#[derive(Debug, Clone)]
enum Step {
    Write(Vec<Vec<Put>>),
    Scan(ScanRange, usize),
}

/// Keys: few, so that writes often meet, and with every kind of neighbour in the order of bytes.
const KEYS: &[&[u8]] = &[b"", b"\0", b"a", b"a\0", b"a\xff", b"ab", b"b", b"\x7f", b"\x80", b"\xff", b"\xff\xff"];
const SPACES: &[&str] = &["history", "outbox", "test"];

fn key() -> impl Strategy<Value = Bytes> {
    prop::sample::select(KEYS).prop_map(Bytes::from_static)
}

fn any_put() -> impl Strategy<Value = Put> {
    let expect = prop_oneof![
        Just(Expect::Any),
        Just(Expect::Absent),
        (0..4u64).prop_map(Expect::Version),
        Just(Expect::Version(u64::MAX)),
    ];
    let value = prop::option::weighted(0.7, prop::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from));
    (prop::sample::select(SPACES), key(), expect, value).prop_map(|(space, key, expect, value)| Put {
        space,
        key,
        expect,
        value,
    })
}

fn group() -> impl Strategy<Value = Vec<Put>> {
    prop::collection::vec(any_put(), 0..5).prop_map(|mut puts| {
        let mut seen = std::collections::HashSet::new();
        puts.retain(|put| seen.insert((put.space, put.key.clone())));
        puts
    })
}

fn step() -> impl Strategy<Value = Step> {
    let range = prop_oneof![
        key().prop_map(|prefix| ScanRange::prefix("test", prefix)),
        (prop::sample::select(SPACES), key(), prop::option::of(key())).prop_map(|(space, from, to)| ScanRange {
            space,
            from,
            to
        }),
    ];
    prop_oneof![
        3 => prop::collection::vec(group(), 0..6).prop_map(Step::Write),
        1 => (range, 0..8usize).prop_map(|(range, limit)| Step::Scan(range, limit)),
    ]
}

fn reference() -> BrokerStore {
    let broker = Embedded::memory(partitura_embedded::Options::default()).expect("a broker in memory");
    BrokerStore::new(Arc::new(broker)).expect("it has transactions")
}

#[test]
fn the_store_answers_any_writes_and_reads_as_the_embedded_one() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let url = runtime.block_on(server_url());
    // Random groups and their result, one case after the other on the same server.
    let mut runner = TestRunner::new(Config { cases: 60, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&prop::collection::vec(step(), 0..40), |steps| {
        runtime.block_on(async {
            let store = open(&url, &fresh_schema()).await.expect("a store");
            let reference = reference();
            for step in steps {
                match step {
                    Step::Write(groups) => {
                        let expected = kinds(&reference, groups.clone()).await;
                        assert_eq!(kinds(&store, groups.clone()).await, expected, "{groups:?}");
                    }
                    Step::Scan(range, limit) => {
                        let expected = reference.scan(range.clone(), limit).await.expect("read");
                        assert_eq!(store.count(range.clone(), limit).await.expect("read"), expected.len(), "{range:?}");
                        assert_eq!(store.scan(range.clone(), limit).await.expect("read"), expected, "{range:?}");
                    }
                }
            }
            for space in SPACES {
                let all = ScanRange { space, from: Bytes::new(), to: None };
                let expected = reference.scan(all.clone(), 1_000).await.expect("read");
                assert_eq!(store.count(all.clone(), 1_000).await.expect("read"), expected.len());
                assert_eq!(store.scan(all, 1_000).await.expect("read"), expected);
                for key in KEYS.iter().copied().map(Bytes::from_static) {
                    let expected = reference.get(space, key.clone()).await.expect("read");
                    assert_eq!(store.get(space, key).await.expect("read"), expected);
                }
            }
        });
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

#[tokio::test]
async fn a_group_that_is_refused_says_which_key_and_writes_nothing() {
    let store = fresh().await;
    write(&store, vec![put("taken", Expect::Absent, Some("old"))]).await.expect("written");
    let group = vec![put("free", Expect::Absent, Some("new")), put("taken", Expect::Absent, Some("new"))];
    let error = write(&store, group).await.expect_err("taken");
    assert_eq!((error.kind(), error.subject()), (ErrorKind::Conflict, Some("test/taken")));
    assert_eq!(store.get(SPACE, "free".into()).await.expect("read"), None);
    assert_eq!(store.get(SPACE, "taken".into()).await.expect("read"), Some((1, "old".into())));
}

#[tokio::test]
async fn a_group_that_no_statement_can_carry_is_refused_alone() {
    let store = fresh().await;
    let twice = vec![put("a", Expect::Any, Some("1")), put("a", Expect::Any, Some("2"))];
    let groups = vec![twice, vec![put("b", Expect::Any, Some("1"))], vec![put([0; 2_001], Expect::Any, None)], vec![]];
    let refused = Some(ErrorKind::InvalidArgument);
    assert_eq!(kinds(&store, groups).await, [refused, None, refused, None]);
}

#[tokio::test]
async fn ten_thousand_rows_are_read_page_by_page_in_order() {
    const ROWS: u32 = 10_000;
    let store = fresh().await;
    let row = |number: u32| put(number.to_be_bytes(), Expect::Absent, Some("row"));
    let groups =
        (0..ROWS).rev().collect::<Vec<_>>().chunks(100).map(|page| page.iter().map(|n| row(*n)).collect()).collect();
    assert!(kinds(&store, groups).await.iter().all(Option::is_none));
    let mut range = ScanRange { space: SPACE, from: Bytes::new(), to: None };
    let mut expected = 0u32;
    loop {
        let page = store.scan(range.clone(), 700).await.expect("a page");
        let Some(last) = page.last() else { break };
        range = range.after(&last.key);
        for entry in page {
            assert_eq!(entry.key, expected.to_be_bytes().as_slice());
            expected += 1;
        }
    }
    assert_eq!(expected, ROWS);
}

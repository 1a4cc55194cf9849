use bytes::Bytes;
use partitura_broker::{ErrorKind, Expect, Put, ScanRange, Transactions, Unit};

use crate::case::case;
use crate::client::{Client, by_key, ids, tokens};
use crate::stop::{ensure, ensure_same};
use crate::{Case, CaseResult, Env, Stop, check};

pub(super) const CASES: &[Case] = &[
    case!(
        "transaction.atomic",
        One,
        [Transactions],
        "a unit settles, publishes and writes together, or does nothing and leaves the others alone",
        atomic
    ),
    case!(
        "transaction.conflict",
        One,
        [Transactions],
        "of two that expect the same version one wins; the other learns Conflict and changes nothing",
        conflict
    ),
    case!(
        "transaction.fence",
        One,
        [Transactions],
        "a unit that settles a delivery that another owns by now, or that is settled already, is Fenced and changes nothing",
        fence
    ),
    case!(
        "transaction.survives_kill",
        Two,
        [Transactions, Processes, Durability],
        "after SIGKILL each unit is there entirely or not at all, and every unit that was answered is there",
        survives_kill,
        moves_messages
    ),
    case!(
        "transaction.scan",
        One,
        [Transactions],
        "a scan gives a range in the order of keys, and can be continued",
        scan
    ),
];

const SPACE: &str = "conformance";

fn put(key: impl Into<String>, expect: Expect, value: &str) -> Put {
    Put { space: SPACE, key: key.into().into(), expect, value: Some(value.to_owned().into()) }
}

fn transactions(client: &Client) -> Result<&dyn Transactions, Stop> {
    client.broker().transactions().ok_or_else(|| "the broker declares transactions and has none".into())
}

async fn kinds(client: &Client, units: Vec<Unit>) -> Result<Vec<Option<ErrorKind>>, Stop> {
    let results = transactions(client)?.commit(units).await;
    Ok(results.into_iter().map(|result| result.err().map(|error| error.kind())).collect())
}

async fn value(client: &Client, key: impl Into<String>) -> Result<Option<(u64, Bytes)>, Stop> {
    Ok(transactions(client)?.get(SPACE, key.into().into()).await?)
}

async fn atomic(env: &Env) -> CaseResult {
    let (queue, client) = (env.queue("orders", by_key(1)), env.connect().await?);
    client.declare(&queue.topology()).await?;
    client.publish(queue.messages("k", 0..2)).await?;
    let mut member = client.join(queue.options()).await?;
    let held = member.take(2).await?;
    ensure!(
        kinds(&client, vec![Unit { put: vec![put("taken", Expect::Absent, "old")], ..Unit::default() }]).await?
            == [None],
        "a plain write fails"
    );

    let nowhere = env.queue("nowhere", queue.ordering).message("k", 99);
    let fails = |token: usize, number: usize, expect| Unit {
        settle: tokens(&held[token..=token]),
        publish: queue.messages("k", [number]),
        put: vec![put("fresh", Expect::Any, "x"), put("taken", expect, "x")],
    };
    let units = vec![
        fails(0, 10, Expect::Absent),
        fails(0, 11, Expect::Version(9)),
        Unit {
            publish: vec![queue.message("k", 12), nowhere],
            put: vec![put("fresh", Expect::Any, "x")],
            ..Unit::default()
        },
        Unit {
            settle: tokens(&held[..1]),
            publish: queue.messages("k", [2, 3]),
            put: vec![put("done", Expect::Absent, "y")],
        },
        fails(0, 13, Expect::Version(1)),
    ];
    let expected = [
        Some(ErrorKind::Conflict),
        Some(ErrorKind::Conflict),
        Some(ErrorKind::NotFound),
        None,
        Some(ErrorKind::Fenced),
    ];
    let found = kinds(&client, units).await?;
    ensure_same(&found, &expected)?;
    ensure!(value(&client, "fresh").await?.is_none(), "a unit that failed has written something");
    ensure!(value(&client, "taken").await? == Some((1, "old".into())), "a unit that failed has written over something");
    ensure!(value(&client, "done").await? == Some((1, "y".into())), "a unit that succeeded has not written");
    let published = member.take(2).await?;
    ensure!(ids(&published) == ["k-2", "k-3"], "k-2 and k-3 were expected, {:?} came", ids(&published));
    drop(member);
    let again = client.join(queue.options()).await?.drain(3).await?;
    ensure!(ids(&again) == ["k-1", "k-2", "k-3"], "k-1 to k-3 were expected, {:?} came", ids(&again));
    Ok(())
}

async fn conflict(env: &Env) -> CaseResult {
    const ROUNDS: u64 = 30;
    let client = env.connect().await?;
    for round in 0..ROUNDS {
        let expect = if round == 0 { Expect::Absent } else { Expect::Version(round) };
        let unit = |value: &str| vec![Unit { put: vec![put("counter", expect, value)], ..Unit::default() }];
        let (a, b) = tokio::join!(kinds(&client, unit("a")), kinds(&client, unit("b")));
        let (a, b) = (a?[0], b?[0]);
        let winner = match (a, b) {
            (None, Some(ErrorKind::Conflict)) => "a",
            (Some(ErrorKind::Conflict), None) => "b",
            other => return Err(format!("round {round}: one was to win, {other:?} came").into()),
        };
        let found = value(&client, "counter").await?;
        ensure!(
            found == Some((round + 1, winner.to_owned().into())),
            "round {round}: {winner} won, and {found:?} is there"
        );
    }
    let gone = Put { space: SPACE, key: "counter".into(), expect: Expect::Version(ROUNDS), value: None };
    ensure!(kinds(&client, vec![Unit { put: vec![gone], ..Unit::default() }]).await? == [None], "removing fails");
    ensure!(value(&client, "counter").await?.is_none(), "a removed value is there");
    Ok(())
}

async fn fence(env: &Env) -> CaseResult {
    let (queue, client) = (env.queue("orders", by_key(1)), env.connect().await?);
    client.declare(&queue.topology()).await?;
    client.publish(queue.messages("k", 0..3)).await?;
    let mut first = client.join(queue.options()).await?;
    let held = first.take(3).await?;
    first.settle(&held[..1]);
    let unit = |token: usize, key: &str| Unit {
        settle: tokens(&held[token..=token]),
        publish: queue.messages("stale", [token]),
        put: vec![put(key, Expect::Any, "x")],
    };
    let settled = kinds(&client, vec![unit(0, "settled")]).await?;
    ensure!(settled == [Some(ErrorKind::Fenced)], "settled already: {settled:?}");
    drop(first);
    let mut second = client.join(queue.options()).await?;
    let again = second.take(2).await?;
    let stale = kinds(&client, vec![unit(1, "stale"), Unit { settle: tokens(&again[1..]), ..Unit::default() }]).await?;
    ensure!(stale == [Some(ErrorKind::Fenced), None], "of another owner: {stale:?}");
    for key in ["settled", "stale"] {
        ensure!(value(&client, key).await?.is_none(), "a unit that was fenced has written");
    }
    drop(second);
    client.publish(queue.messages("k", [3])).await?;
    let rest = client.join(queue.options()).await?.drain(2).await?;
    ensure!(ids(&rest) == ["k-1", "k-3"], "k-1 and k-3 were expected, {:?} came", ids(&rest));
    Ok(())
}

const MOVED: usize = 300;

async fn survives_kill(env: &Env) -> CaseResult {
    let (from, to) = (env.queue("from", by_key(4)), env.queue("to", by_key(4)));
    for life in 1..=3 {
        let part = env.start("moves_messages").await?;
        env.until("some commits", |counts| counts.notes >= life * MOVED / 5).await?;
        part.kill().await?;
    }
    let answered: Vec<String> = env
        .history()
        .entries()
        .iter()
        .filter_map(|entry| match &entry.record {
            crate::Record::Note(id) if entry.process > 0 => Some(id.clone()),
            _ => None,
        })
        .collect();
    let client = env.connect().await?;
    client.declare(&from.topology()).await?;
    client.declare(&to.topology()).await?;
    // The rest of the one topic and the messages of the other are all of them, once; and the state says the same.
    client.publish(from.spread(8, 1).into_iter().map(|m| crate::client::renamed(m, "end")).collect()).await?;
    client.publish(to.spread(8, 1).into_iter().map(|m| crate::client::renamed(m, "end")).collect()).await?;
    let ends = || (0..8).map(|key| format!("end-k{key}-0"));
    let left = client.join(from.options()).await?.drain_until(ends()).await?;
    let came = client.join(to.options()).await?.drain_until(ends()).await?;
    for message in from.spread(8, MOVED.div_ceil(8)) {
        let id = message.id.as_str();
        let is_in = |all: &[partitura_broker::Delivery]| all.iter().filter(|got| got.message.id.as_str() == id).count();
        let state = value(&client, id).await?.is_some();
        let found = (is_in(&left), is_in(&came), state);
        ensure!(
            found == (1, 0, false) || found == (0, 1, true),
            "{id}: left {}, moved {}, written {state}",
            found.0,
            found.1
        );
        ensure!(state || !answered.iter().any(|answered| answered == id), "{id} was answered and is undone");
    }
    Ok(())
}

/// Moves messages from one queue to another, each with a value that says so, one unit each, as fast as it goes.
async fn moves_messages(env: &Env) -> CaseResult {
    let (from, to, client) = (env.queue("from", by_key(4)), env.queue("to", by_key(4)), env.connect().await?);
    client.declare(&from.topology()).await?;
    client.declare(&to.topology()).await?;
    // In its first life only, whenever that ended.
    let first = Unit {
        publish: from.spread(8, MOVED.div_ceil(8)),
        put: vec![put("first", Expect::Absent, "")],
        ..Unit::default()
    };
    kinds(&client, vec![first]).await?;
    let mut member = client.join(from.options()).await?;
    loop {
        for delivery in member.take(1).await? {
            let mut message = delivery.message.clone();
            message.topic = to.topic.clone();
            let put = put(message.id.to_string(), Expect::Absent, "moved");
            let id = message.id.to_string();
            let unit = Unit { settle: vec![delivery.token], publish: vec![message], put: vec![put] };
            transactions(&client)?.commit(vec![unit]).await.remove(0)?;
            env.note(id);
        }
    }
}

async fn scan(env: &Env) -> CaseResult {
    let client = env.connect().await?;
    let keys = ["b/2", "a", "b/1", "b/3", "c", "b/10", "b/"];
    let units = keys.iter().map(|key| Unit { put: vec![put(*key, Expect::Absent, key)], ..Unit::default() }).collect();
    ensure!(kinds(&client, units).await?.iter().all(Option::is_none), "plain writes fail");
    let read = async |range: ScanRange, limit: usize| -> Result<Vec<String>, Stop> {
        let entries = transactions(&client)?.scan(range, limit).await?;
        Ok(entries.iter().map(|entry| entry.key.escape_ascii().to_string()).collect())
    };
    let range = ScanRange::prefix(SPACE, "b/");
    let all = read(range.clone(), 100).await?;
    ensure!(all == ["b/", "b/1", "b/10", "b/2", "b/3"], "{all:?}");
    let first = read(range.clone(), 2).await?;
    let rest = read(range.after(first[1].as_bytes()), 100).await?;
    ensure!([first, rest].concat() == all, "reading on from the second key gives something else");
    ensure!(read(ScanRange::prefix("another", ""), 100).await?.is_empty(), "spaces mix");
    several(&client).await?;
    Ok(check::contract(&env.history())?)
}

/// Several ranges that are read at once are those that are read one by one.
async fn several(client: &Client) -> Result<(), Stop> {
    let prefixes = ["c", "", "b/1", "none", "b/"];
    let ranges = || prefixes.iter().map(|prefix| ScanRange::prefix(SPACE, *prefix)).collect::<Vec<_>>();
    for limit in [0, 2, 100] {
        let mut one_by_one = Vec::new();
        for range in ranges() {
            one_by_one.push(transactions(client)?.scan(range, limit).await?);
        }
        let at_once = transactions(client)?.scan_each(ranges(), limit).await?;
        ensure!(at_once == one_by_one, "read at once, up to {limit}: {at_once:?}");
        let counted = transactions(client)?.count_each(ranges(), limit).await?;
        let lengths: Vec<usize> = one_by_one.iter().map(Vec::len).collect();
        ensure!(counted == lengths, "counted at once, up to {limit}: {counted:?} of {lengths:?}");
    }
    Ok(())
}

//! The duties of a store, one function each.

use std::future::Future;
use std::pin::Pin;

use partitura_broker::{ErrorKind, Expect, Put, ScanRange};
use tokio::task::JoinSet;

use super::case::{Case, Verdict};
use super::ground::{Ground, OTHER, SPACE, same};

type Checked<'a> = Pin<Box<dyn Future<Output = Verdict> + Send + 'a>>;

/// How many write at once.
const RIVALS: u32 = 32;

pub(super) const ALL: &[Case] = &[
    Case { name: "write.read_back", duty: "A value is read as it was written, at once.", run: read_back },
    Case { name: "write.versions", duty: "The version is 1 at first, and one more with each write.", run: versions },
    Case { name: "write.absent", duty: "A write that expects no value conflicts if there is one.", run: absent },
    Case { name: "write.version", duty: "A write that expects a version conflicts with any other.", run: version },
    Case { name: "write.whole", duty: "Of a group that conflicts nothing is written.", run: whole },
    Case { name: "write.apart", duty: "Groups of one call do not depend on each other.", run: apart },
    Case { name: "write.many", duty: "A call takes a thousand groups, and answers each in its place.", run: many },
    Case { name: "write.remove", duty: "A value that is removed is gone, and may be written anew.", run: remove },
    Case { name: "write.any_bytes", duty: "Keys and values are any bytes; an empty value is a value.", run: any_bytes },
    Case { name: "write.large", duty: "Values of 4 MiB and keys of 1,000 bytes are kept.", run: large },
    Case { name: "write.dropped", duty: "A write that is dropped is done entirely or not at all.", run: dropped },
    Case { name: "rivals.one_wins", duty: "Of many that expect no value, one writes.", run: one_wins },
    Case { name: "rivals.count", duty: "No write is lost among those that expect a version.", run: no_write_is_lost },
    Case { name: "scan.order", duty: "A scan is in the order of the bytes of keys.", run: order },
    Case { name: "scan.bounds", duty: "A scan begins with its first key, and ends before its last.", run: bounds },
    Case { name: "scan.prefix", duty: "A prefix covers the keys that begin with it, and no others.", run: prefix },
    Case { name: "scan.pages", duty: "A scan is read on page by page, without gaps.", run: pages },
    Case { name: "scan.count", duty: "A count is that of a scan, up to its limit.", run: count },
    Case { name: "scan.each", duty: "Ranges that are read at once are those that are read one by one.", run: each },
    Case { name: "space.apart", duty: "The same key in another space is another key.", run: spaces },
    Case { name: "clock.forward", duty: "A clock, if there is one, does not go backwards.", run: clock },
];

fn read_back(ground: &Ground) -> Checked<'_> {
    Box::pin(async move {
        same("a key that was never written", ground.value("a").await?, None)?;
        for value in [&b"one"[..], b"two", b"", b"three"] {
            ground.set("a", value).await?;
            same("what was just written", ground.value("a").await?, Some(value.to_vec()))?;
        }
        Ok(())
    })
}

fn versions(ground: &Ground) -> Checked<'_> {
    Box::pin(async move {
        for expected in 1..=5 {
            ground.set("a", b"the same").await?;
            same("the version", ground.get("a").await?.map(|(version, _)| version), Some(expected))?;
        }
        let scanned = ground.scan(ground.range("a"), 1).await?;
        same("the version in a scan", scanned.first().map(|entry| entry.version), Some(5))
    })
}

fn absent(ground: &Ground) -> Checked<'_> {
    Box::pin(async move {
        let first = ground.write(vec![ground.put("a", Expect::Absent, Some(b"first"))]).await;
        same("the first write", first, Ok(()))?;
        let second = ground.write(vec![ground.put("a", Expect::Absent, Some(b"second"))]).await;
        same("the second write", second, Err(ErrorKind::Conflict))?;
        same("the value", ground.value("a").await?, Some(b"first".to_vec()))
    })
}

fn version(ground: &Ground) -> Checked<'_> {
    Box::pin(async move {
        let on_nothing = ground.write(vec![ground.put("a", Expect::Version(1), Some(b"early"))]).await;
        same("a version of what does not exist", on_nothing, Err(ErrorKind::Conflict))?;
        ground.set("a", b"1").await?;
        ground.set("a", b"2").await?;
        for stale in [1, 3, u64::MAX] {
            let refused = ground.write(vec![ground.put("a", Expect::Version(stale), Some(b"stale"))]).await;
            same("another version", refused, Err(ErrorKind::Conflict))?;
        }
        let taken = ground.write(vec![ground.put("a", Expect::Version(2), Some(b"3"))]).await;
        same("the present version", taken, Ok(()))?;
        same("the value", ground.get("a").await?, Some((3, b"3".to_vec())))?;
        let removed = ground.write(vec![ground.put("a", Expect::Version(2), None)]).await;
        same("the removal of an earlier version", removed, Err(ErrorKind::Conflict))
    })
}

fn whole(ground: &Ground) -> Checked<'_> {
    Box::pin(async move {
        ground.set("taken", b"old").await?;
        ground.set("there", b"old").await?;
        for last in [Expect::Absent, Expect::Version(7)] {
            let group = vec![
                ground.put("new", Expect::Absent, Some(b"new")),
                ground.put("there", Expect::Any, None),
                ground.put("taken", last, Some(b"new")),
            ];
            same("a group of which one write conflicts", ground.write(group).await, Err(ErrorKind::Conflict))?;
            same("a new key of it", ground.value("new").await?, None)?;
            same("a removal of it", ground.value("there").await?, Some(b"old".to_vec()))?;
        }
        let group = (0..50).map(|n: u8| ground.put([b'g', n], Expect::Absent, Some(&[n]))).collect();
        same("a group of fifty", ground.write(group).await, Ok(()))?;
        same("its keys", ground.keys(ground.range("g"), 100).await?.len(), 50)
    })
}

fn apart(ground: &Ground) -> Checked<'_> {
    Box::pin(async move {
        ground.set("taken", b"old").await?;
        let free = |key: &str| vec![ground.put(key, Expect::Absent, Some(b"new"))];
        let groups = vec![free("a"), free("taken"), Vec::new(), free("b"), free("taken")];
        let conflict = Err(ErrorKind::Conflict);
        same("the answers", ground.groups(groups).await, vec![Ok(()), conflict, Ok(()), Ok(()), conflict])?;
        for key in ["a", "b"] {
            same("a group beside one that conflicts", ground.value(key).await?, Some(b"new".to_vec()))?;
        }
        same("a call without groups", ground.groups(Vec::new()).await, Vec::new())
    })
}

fn many(ground: &Ground) -> Checked<'_> {
    Box::pin(async move {
        let number = |n: u32| n.to_be_bytes();
        let odd = (0..1_000).filter(|n| n % 2 == 1).map(|n| vec![ground.put(number(n), Expect::Absent, Some(b"odd"))]);
        same("the odd ones", ground.groups(odd.collect()).await, vec![Ok(()); 500])?;
        let all = (0..1_000).map(|n| vec![ground.put(number(n), Expect::Absent, Some(b"all"))]);
        let expected = (0..1_000).map(|n| if n % 2 == 1 { Err(ErrorKind::Conflict) } else { Ok(()) });
        same("all of them", ground.groups(all.collect()).await, expected.collect())?;
        same("how many there are", ground.keys(ground.range(""), 2_000).await?.len(), 1_000)
    })
}

fn remove(ground: &Ground) -> Checked<'_> {
    Box::pin(async move {
        let removal = || vec![ground.put("a", Expect::Any, None)];
        same("the removal of nothing", ground.write(removal()).await, Ok(()))?;
        ground.set("a", b"old").await?;
        same("a removal", ground.write(removal()).await, Ok(()))?;
        same("what was removed", ground.value("a").await?, None)?;
        same("in a scan", ground.keys(ground.range("a"), 10).await?, Vec::new())?;
        let anew = ground.write(vec![ground.put("a", Expect::Absent, Some(b"new"))]).await;
        same("a write that expects no value", anew, Ok(()))?;
        same("the value", ground.value("a").await?, Some(b"new".to_vec()))
    })
}

fn any_bytes(ground: &Ground) -> Checked<'_> {
    Box::pin(async move {
        let keys: [&[u8]; 6] = [b"", b"\0", b"\0\0", b"\x80", b"\xff\xfe", b"\xff\xff"];
        let values: [&[u8]; 3] = [b"", b"\0", b"\xff\0\xfe"];
        for key in keys {
            for value in values {
                ground.set(key, value).await?;
                same(&format!("the value of the key {key:?}"), ground.value(key).await?, Some(value.to_vec()))?;
            }
        }
        same("the keys", ground.keys(ground.range(""), 10).await?.len(), keys.len())
    })
}

fn large(ground: &Ground) -> Checked<'_> {
    Box::pin(async move {
        let value: Vec<u8> = (0..4 << 20).map(|n: u32| n as u8).collect();
        ground.set("a", &value).await?;
        let is_same = ground.value("a").await? == Some(value);
        same("whether 4 MiB are read as they were written", is_same, true)?;
        let key = vec![b'k'; 900];
        ground.set(&key, b"long").await?;
        same("the value of a long key", ground.value(&key).await?, Some(b"long".to_vec()))
    })
}

fn dropped(ground: &Ground) -> Checked<'_> {
    Box::pin(async move {
        for number in 0..20_u8 {
            let half = |half: u8| ground.put([number, half], Expect::Absent, Some(b"half"));
            let writing = ground.store.write(vec![vec![half(0), half(1)]]);
            // It has begun, or not.
            let limit = std::time::Duration::from_micros(u64::from(number) * 50);
            drop(tokio::time::timeout(limit, writing).await);
        }
        // A write that was begun is done when a later one is.
        ground.set("z", b"last").await?;
        for number in 0..20_u8 {
            let mut halves = 2;
            for _ in 0..200 {
                halves = ground.keys(ground.range([number]), 10).await?.len();
                if halves != 1 {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            if halves == 1 {
                return Err("one of two values of a group was written".to_owned());
            }
        }
        Ok(())
    })
}

fn one_wins(ground: &Ground) -> Checked<'_> {
    Box::pin(async move {
        for round in 0..5_u8 {
            let mut rivals = JoinSet::new();
            for rival in 0..RIVALS {
                let put = ground.put([b'r', round], Expect::Absent, Some(&rival.to_be_bytes()));
                let beside = ground.put([b's', round, rival as u8], Expect::Any, Some(b"beside"));
                let store = ground.store.clone();
                rivals.spawn(async move { (rival, store.write(vec![vec![beside, put]]).await.pop()) });
            }
            let mut winner = None;
            while let Some(Ok((rival, answer))) = rivals.join_next().await {
                match answer {
                    Some(Ok(())) if winner.is_none() => winner = Some(rival),
                    Some(Ok(())) => return Err("two of them were told that they have written".to_owned()),
                    Some(Err(error)) if error.kind() == ErrorKind::Conflict => {}
                    other => return Err(format!("neither written nor a conflict: {other:?}")),
                }
            }
            let Some(winner) = winner else { return Err("none of them has written".to_owned()) };
            same("the value", ground.value([b'r', round]).await?, Some(winner.to_be_bytes().to_vec()))?;
            same("what was written beside", ground.keys(ground.range([b's', round]), 100).await?.len(), 1)?;
        }
        Ok(())
    })
}

fn no_write_is_lost(ground: &Ground) -> Checked<'_> {
    Box::pin(async move {
        ground.set("n", b"0").await?;
        let mut rivals = JoinSet::new();
        for _ in 0..RIVALS {
            let (store, key) = (ground.store.clone(), ground.key("n"));
            rivals.spawn(async move {
                loop {
                    let found = store.get(SPACE, key.clone()).await.map_err(|error| error.to_string())?;
                    let (version, value) = found.ok_or("the value is gone")?;
                    // Others read it as well.
                    tokio::task::yield_now().await;
                    let number: u32 = String::from_utf8_lossy(&value).parse().map_err(|_| "not the number")?;
                    let value = Some((number + 1).to_string().into_bytes().into());
                    let put = Put { space: SPACE, key: key.clone(), expect: Expect::Version(version), value };
                    match store.write(vec![vec![put]]).await.pop() {
                        Some(Ok(())) => return Ok::<(), String>(()),
                        Some(Err(error)) if error.kind() == ErrorKind::Conflict => {}
                        other => return Err(format!("neither written nor a conflict: {other:?}")),
                    }
                }
            });
        }
        while let Some(ended) = rivals.join_next().await {
            ended.map_err(|panic| panic.to_string())??;
        }
        same("the number", ground.value("n").await?, Some(RIVALS.to_string().into_bytes()))
    })
}

/// Keys in the order of their bytes, with every kind of neighbour.
const ORDERED: [&[u8]; 9] = [b"", b"\0", b"A", b"a", b"a\0", b"ab", b"a\xff", b"b", b"\xff"];

async fn write_ordered(ground: &Ground) -> Verdict {
    // Not in their order.
    for key in [4, 8, 0, 6, 2, 7, 1, 5, 3].map(|at| ORDERED[at]) {
        ground.set(key, key).await?;
    }
    Ok(())
}

fn order(ground: &Ground) -> Checked<'_> {
    Box::pin(async move {
        write_ordered(ground).await?;
        same("the keys", ground.keys(ground.range(""), 100).await?, ORDERED.map(<[u8]>::to_vec).to_vec())?;
        for limit in [0, 1, 4] {
            let found = ground.keys(ground.range(""), limit).await?;
            same("as many as asked for", found, ORDERED[..limit].iter().map(|key| key.to_vec()).collect())?;
        }
        let scanned = ground.scan(ground.range(""), 100).await?;
        let fits = scanned.iter().all(|entry| ground.short(&entry.key) == *entry.value);
        same("whether each key has its value", fits, true)
    })
}

fn bounds(ground: &Ground) -> Checked<'_> {
    Box::pin(async move {
        write_ordered(ground).await?;
        for (from, to) in [(2, 6), (0, 1), (4, 4), (3, 9)] {
            let end = if to == ORDERED.len() { ground.key(b"\xff\xff") } else { ground.key(ORDERED[to]) };
            let range = ScanRange { space: SPACE, from: ground.key(ORDERED[from]), to: Some(end) };
            let expected = ORDERED[from..to].iter().map(|key| key.to_vec()).collect();
            same("from the first, up to the last", ground.keys(range, 100).await?, expected)?;
        }
        let open = ScanRange { space: SPACE, from: ground.key(b"b"), to: None };
        let found = ground.keys(open, 2).await?;
        same("a range without an end", found, vec![b"b".to_vec(), b"\xff".to_vec()])
    })
}

fn prefix(ground: &Ground) -> Checked<'_> {
    Box::pin(async move {
        write_ordered(ground).await?;
        for (prefix, from, to) in [(&b"a"[..], 3, 7), (b"ab", 5, 6), (b"\xff", 8, 9), (b"c", 8, 8)] {
            let expected = ORDERED[from..to].iter().map(|key| key.to_vec()).collect();
            same("keys with a prefix", ground.keys(ground.range(prefix), 100).await?, expected)?;
        }
        Ok(())
    })
}

fn pages(ground: &Ground) -> Checked<'_> {
    Box::pin(async move {
        let rows = (0..500_u32).rev().map(|n| vec![ground.put(n.to_be_bytes(), Expect::Absent, Some(b"row"))]);
        same("the rows", ground.groups(rows.collect()).await, vec![Ok(()); 500])?;
        let (mut range, mut next) = (ground.range(""), 0_u32);
        loop {
            let page = ground.scan(range.clone(), 70).await?;
            let Some(last) = page.last() else { break };
            range = range.after(&last.key);
            for entry in &page {
                same("the next key", ground.short(&entry.key), next.to_be_bytes().to_vec())?;
                next += 1;
            }
        }
        same("how many were read", next, 500)
    })
}

fn count(ground: &Ground) -> Checked<'_> {
    Box::pin(async move {
        write_ordered(ground).await?;
        for (prefix, limit, expected) in [("", 100, 9), ("", 5, 5), ("a", 100, 4), ("c", 100, 0), ("", 0, 0)] {
            let counted = ground.store.count(ground.range(prefix), limit).await.map_err(|error| error.to_string())?;
            same("how many there are", counted, expected)?;
        }
        Ok(())
    })
}

fn each(ground: &Ground) -> Checked<'_> {
    Box::pin(async move {
        write_ordered(ground).await?;
        let failed = |error: partitura_broker::Error| error.to_string();
        let to_the_end = ScanRange { to: None, ..ground.range("") };
        let elsewhere = ScanRange { space: OTHER, ..ground.range("a") };
        let plain: Vec<ScanRange> = ["b", "", "a", "c", "ab", "a"].iter().map(|prefix| ground.range(prefix)).collect();
        for ranges in [plain.clone(), Vec::new(), [plain, vec![to_the_end, elsewhere]].concat()] {
            for limit in [0, 1, 3] {
                let (mut scanned, mut counted) = (Vec::new(), Vec::new());
                for range in &ranges {
                    scanned.push(ground.scan(range.clone(), limit).await?);
                    counted.push(ground.store.count(range.clone(), limit).await.map_err(failed)?);
                }
                let found = ground.store.scan_each(ranges.clone(), limit).await.map_err(failed)?;
                same("what is read at once", found, scanned)?;
                let found = ground.store.count_each(ranges.clone(), limit).await.map_err(failed)?;
                same("what is counted at once", found, counted)?;
            }
        }
        Ok(())
    })
}

fn spaces(ground: &Ground) -> Checked<'_> {
    Box::pin(async move {
        ground.set("a", b"here").await?;
        let there = Put { space: OTHER, ..ground.put("a", Expect::Absent, Some(b"there")) };
        same("the same key in another space", ground.write(vec![there]).await, Ok(()))?;
        same("the value here", ground.value("a").await?, Some(b"here".to_vec()))?;
        let range = ScanRange { space: OTHER, ..ground.range("") };
        let found: Vec<Vec<u8>> = ground.scan(range, 10).await?.iter().map(|entry| entry.value.to_vec()).collect();
        same("what is there", found, vec![b"there".to_vec()])
    })
}

fn clock(ground: &Ground) -> Checked<'_> {
    Box::pin(async move {
        let mut latest = None;
        for _ in 0..20 {
            let now = ground.store.now().await.map_err(|error| error.to_string())?;
            if now < latest {
                return Err(format!("{now:?} came after {latest:?}"));
            }
            latest = now;
        }
        Ok(())
    })
}

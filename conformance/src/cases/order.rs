use std::time::Duration;

use partitura_broker::{Delivery, ErrorKind, Event, Partition};

use crate::case::case;
use crate::client::{A_MOMENT, by_key, ids};
use crate::stop::{ensure, ensure_same};
use crate::{Case, CaseResult, Env, check};

pub(super) const CASES: &[Case] = &[
    case!("order.key_basic", One, [], "per key, first deliveries follow the order of the receipts", key_basic),
    case!(
        "order.takeover_with_new",
        Two,
        [Processes, Durability],
        "an owner dies with out-of-order settlements, new messages come before the take-over: the order holds",
        takeover_with_new,
        settles_three_and_seven
    ),
    case!(
        "order.graceful_handover",
        One,
        [],
        "while messages are held for a hand-over, the successor does not start",
        graceful_handover
    ),
    case!(
        "order.repartition",
        One,
        [],
        "declaring another number of partitions is refused as incompatible, and changes nothing",
        repartition
    ),
];

async fn key_basic(env: &Env) -> CaseResult {
    const KEYS: usize = 64;
    let each = env.load(300, 100);
    let (queue, client) = (env.queue("orders", by_key(8)), env.connect().await?);
    client.declare(&queue.topology()).await?;
    // Eight publishers with keys of their own, in batches in which each key occurs several times, while two consume.
    let publishing = (0..8).map(|publisher| {
        let keys = (0..KEYS).filter(move |key| key % 8 == publisher);
        let of_each_key = |number| keys.clone().map(move |key| (key, number));
        let batch: Vec<_> =
            (0..each).flat_map(of_each_key).map(|(key, n)| queue.message(&format!("k{key}"), n)).collect();
        let client = client.clone();
        tokio::spawn(async move {
            let producer = client.producer().await?;
            for chunk in batch.chunks(99) {
                for result in producer.publish(chunk.to_vec()).await {
                    result?;
                }
            }
            CaseResult::Ok(())
        })
    });
    let publishing: Vec<_> = publishing.collect();
    let (mut first, mut second) = (client.join(queue.options()).await?, client.join(queue.options()).await?);
    let done = env.until("all messages", |counts| counts.delivered >= KEYS * each);
    let consuming = async { tokio::try_join!(first.drain(usize::MAX), second.drain(usize::MAX)).map(drop) };
    tokio::select! {
        done = done => done?,
        failed = consuming => failed?,
    }
    for publisher in publishing {
        publisher.await.map_err(|error| error.to_string())??;
    }
    check::nothing_lost(&env.history())?;
    check::in_order(&env.history())?;
    Ok(check::each_once(&env.history())?)
}

async fn takeover_with_new(env: &Env) -> CaseResult {
    let queue = env.orders();
    let part = env.start("settles_three_and_seven").await?;
    env.until("a flush", |counts| counts.flushed >= 1).await?;
    part.kill().await?;
    let client = env.connect().await?;
    client.declare(&queue.topology()).await?;
    client.publish(queue.messages("k", 11..=12)).await?;
    let mut member = client.join(queue.options()).await?;
    let got = member.drain_until(["k-12".to_owned()]).await?;
    let expected: Vec<String> = [1, 2, 4, 5, 6, 8, 9, 10, 11, 12].iter().map(|n| format!("k-{n}")).collect();
    ensure_same(&ids(&got), &expected)?;
    Ok(check::repeats_order(&env.history())?)
}

/// Takes 1 to 10, and settles 3 and 7.
async fn settles_three_and_seven(env: &Env) -> CaseResult {
    let (queue, client) = (env.orders(), env.connect().await?);
    client.declare(&queue.topology()).await?;
    client.publish(queue.messages("k", 1..=10)).await?;
    let mut member = client.join(queue.options()).await?;
    let held = member.take(10).await?;
    member.settle(&held[2..3]);
    member.settle(&held[6..7]);
    member.flush().await?;
    env.hold().await
}

async fn graceful_handover(env: &Env) -> CaseResult {
    let (queue, client) = (env.orders(), env.connect().await?);
    client.declare(&queue.topology()).await?;
    client.publish(queue.spread(40, 3)).await?;
    let mut first = client.join(queue.options()).await?;
    let held = first.take(120).await?;
    let mut second = client.join(queue.options()).await?;
    // They may be asked for one by one.
    let mut moving = Vec::new();
    loop {
        let time_limit = if moving.is_empty() { env.time_limit } else { 2 * A_MOMENT };
        match first.next_within(time_limit).await? {
            Some(Event::Revoking { partitions, .. }) => moving.extend(partitions),
            Some(_) => {}
            None => break,
        }
    }
    let early = second.next_within(Duration::from_millis(100)).await?;
    ensure!(early.is_none(), "before the release the successor is told {early:?}");
    ensure!(!moving.is_empty() && moving.len() < 4, "of 4 partitions {} go to the second consumer", moving.len());
    // New messages come meanwhile, and neither may have those of a partition that is changing hands.
    client.publish(queue.spread(40, 4).split_off(120)).await?;
    let (going, staying): (Vec<_>, Vec<_>) = held.into_iter().partition(|held| moving.contains(&held.partition));
    // Partitions that are asked back only now wait until the rest has gone over.
    let (mut kept, mut later): (Vec<Delivery>, Vec<Partition>) = (Vec::new(), Vec::new());
    let of_what_stays =
        |all: &[Delivery], later: &[Partition]| all.iter().filter(|d| !later.contains(&d.partition)).count();
    while of_what_stays(&kept, &later) < of_what_stays(&staying, &later) / 3 {
        match first.next().await? {
            Event::Deliveries(new) => kept.extend(new),
            Event::Revoking { partitions, .. } => later.extend(partitions),
            _ => {}
        }
    }
    ensure!(kept.iter().all(|new| !moving.contains(&new.partition)), "a partition that is given up gets new messages");
    // Settle all but the last of each key, then release: exactly that and the new ones go over, in order.
    let (last, done): (Vec<_>, Vec<_>) = going.into_iter().partition(|held| held.message.id.as_str().ends_with("-2"));
    first.settle(&done);
    env.note("released");
    first.consumer().release(&moving).await?;
    let got = second.drain(2 * last.len()).await?;
    let released = env.history().entries().iter().position(|e| e.record == crate::Record::Note("released".into()));
    // The last delivery is the successor's: those to the first member may have been flagged, too.
    let started = env.history().entries().iter().rposition(|e| {
        matches!(&e.record, crate::Record::Delivered(delivered) if delivered.message.id == got[0].message.id.as_str())
    });
    ensure!(started > released, "the successor started before the hand-over was done");
    ensure!(
        got.iter().all(|got| moving.contains(&got.partition)),
        "the successor has messages of a partition that is not its own"
    );
    Ok(check::one_owner(&env.history())?)
}

async fn repartition(env: &Env) -> CaseResult {
    let (queue, client) = (env.orders(), env.connect().await?);
    client.declare(&queue.topology()).await?;
    client.publish(queue.messages("k", 0..2)).await?;
    let other = env.queue("orders", by_key(8));
    match client.broker().declare(&other.topology()).await {
        Err(error) if error.kind() == ErrorKind::Incompatible => {
            let text = error.to_string();
            ensure!(text.contains('4') && text.contains('8'), "the error does not say 4 and 8: {text}");
        }
        other => return Err(format!("Incompatible was expected, {other:?} came").into()),
    }
    let mut member = client.join(queue.options()).await?;
    member.drain(2).await?;
    Ok(check::nothing_lost(&env.history())?)
}

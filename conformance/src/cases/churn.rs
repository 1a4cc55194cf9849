use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use partitura_broker::{Event, Message};

use crate::case::case;
use crate::client::{Client, Queue, by_key, credit, ids, now};
use crate::env::Chance;
use crate::stop::ensure;
use crate::{Case, CaseResult, Env, Record, check};

pub(super) const CASES: &[Case] = &[
    case!(
        "order.rebalance",
        One,
        [],
        "while consumers join, leave and vanish, each key stays in order, delayed messages included, each partition has one owner, and nothing is lost",
        rebalance
    ),
    case!(
        "order.rebalance_killed",
        Two,
        [Processes, Durability],
        "the same while processes with several consumers are killed",
        rebalance_killed,
        consumes_by_chance
    ),
    case!(
        "order.revoke_deadline",
        One,
        [],
        "an owner that does not give back in time is told that it lost, and its late settlements are void",
        revoke_deadline
    ),
    case!(
        "scale.churn",
        One,
        [],
        "from one consumer to eight and back under load, nothing is lost and nothing comes twice without need",
        scale
    ),
];

const KEYS: usize = 32;

/// The longest delay of a message, in milliseconds.
const LONGEST_DELAY: u64 = 300;

/// How long a life waits for its share: members that vanished have to be missed first.
const GROW_UP: Duration = Duration::from_secs(8);

/// A consumer that obeys, for a while: it settles most messages, holds the rest, and then leaves or vanishes.
async fn live(client: &Client, queue: &Queue, chance: &mut Chance, leaves: bool) -> CaseResult {
    let mut member = client.join(queue.options().credit(credit(40))).await?;
    let mut event = member.next_within(GROW_UP).await?;
    for _ in 0..10 + chance.below(20) {
        match event.take() {
            Some(Event::Deliveries(got)) => {
                tokio::task::yield_now().await;
                let settled = got.len() - chance.below(3).min(got.len() as u64) as usize;
                member.settle(&got[..settled]);
            }
            Some(Event::Revoking { partitions, .. }) => member.consumer().release(&partitions).await?,
            _ => {}
        }
        event = member.next_within(Duration::from_millis(10)).await?;
    }
    if leaves { member.close().await } else { Ok(()) }
}

/// Delays every sixth message or so, each for another time.
fn some_delayed(batch: Vec<Message>, chance: &mut Chance) -> Vec<Message> {
    let delay = |message: Message| match chance.below(6) {
        0 => message.not_before(now() + Duration::from_millis(20 + chance.below(LONGEST_DELAY))),
        _ => message,
    };
    batch.into_iter().map(delay).collect()
}

/// Reads until the last message of every key has come. It is due behind all delayed ones.
async fn take_the_rest(client: &Client, queue: &Queue, last: usize) -> CaseResult {
    let due = now() + client.broker().capabilities().delay.lateness + Duration::from_millis(2 * LONGEST_DELAY);
    let last_of_each = (0..KEYS).map(|key| queue.message(&format!("k{key}"), last).not_before(due));
    client.publish(last_of_each.collect()).await?;
    let mut member = client.join(queue.options()).await?;
    member.drain_until((0..KEYS).map(|key| format!("k{key}-{last}"))).await?;
    Ok(())
}

async fn rebalance(env: &Env) -> CaseResult {
    const EACH: usize = 120;
    let (queue, client) = (env.queue("orders", by_key(8)), env.connect().await?);
    client.declare(&queue.topology()).await?;
    let (publisher, mut chance) = (client.clone(), env.chance().fork(KEYS));
    let batches: Vec<_> = queue.spread(KEYS, EACH).chunks(KEYS).map(<[_]>::to_vec).collect();
    let publishing = tokio::spawn(async move {
        for batch in batches {
            publisher.publish(some_delayed(batch, &mut chance)).await?;
        }
        CaseResult::Ok(())
    });
    // Four seats, eight lives each: 64 changes of the membership, half of them without a word.
    let seats = (0..4).map(|seat| {
        let (client, queue, mut chance) = (client.clone(), queue.clone(), env.chance().fork(seat));
        tokio::spawn(async move {
            for life in 0..8 {
                live(&client, &queue, &mut chance, (life + seat) % 2 == 0).await?;
            }
            CaseResult::Ok(())
        })
    });
    for task in seats.collect::<Vec<_>>().into_iter().chain([publishing]) {
        task.await.map_err(|error| error.to_string())??;
    }
    take_the_rest(&client, &queue, EACH).await?;
    let history = env.history();
    let is_change = |record: &Record| matches!(record, Record::Joined { .. } | Record::Leaving { .. });
    let changes = history.entries().iter().filter(|entry| is_change(&entry.record)).count();
    ensure!(changes >= 40, "{changes} changes of the membership");
    check::one_owner(&history)?;
    check::in_order(&history)?;
    check::repeats_order(&history)?;
    Ok(check::nothing_lost(&history)?)
}

async fn rebalance_killed(env: &Env) -> CaseResult {
    const LIVES: usize = 6;
    let queue = env.queue("orders", by_key(8));
    let mut chance = env.chance();
    for life in 0..LIVES {
        let before = *env.recorder.counts().borrow();
        let part = env.start("consumes_by_chance").await?;
        let more = 200 + chance.below(600) as usize;
        env.until(&format!("deliveries in life {life}"), |counts| counts.delivered >= before.delivered + more).await?;
        part.kill().await?;
    }
    let client = env.connect().await?;
    client.declare(&queue.topology()).await?;
    take_the_rest(&client, &queue, usize::MAX).await?;
    check::one_owner(&env.history())?;
    check::in_order(&env.history())?;
    Ok(check::nothing_lost(&env.history())?)
}

/// Publishes to its own keys, each life where the last one ended, while three consumers come and go.
async fn consumes_by_chance(env: &Env) -> CaseResult {
    let (queue, client) = (env.queue("orders", by_key(8)), env.connect().await?);
    client.declare(&queue.topology()).await?;
    // Numbers that grow from life to life: milliseconds, with room for the messages of one.
    let first = crate::client::now().as_millis() as usize * 1_000;
    let publisher = (client.clone(), queue.clone());
    tokio::spawn(async move {
        let (client, queue) = publisher;
        for number in first.. {
            client.publish((0..KEYS).map(|key| queue.message(&format!("k{key}"), number)).collect()).await?;
        }
        CaseResult::Ok(())
    });
    let seats = (0..3_usize).map(|seat| {
        let (client, queue, mut chance) = (client.clone(), queue.clone(), env.chance().fork(seat));
        async move {
            for life in 0.. {
                live(&client, &queue, &mut chance, (life + seat) % 2 == 0).await?;
            }
            CaseResult::Ok(())
        }
    });
    futures::future::try_join_all(seats).await.map(drop)
}

async fn revoke_deadline(env: &Env) -> CaseResult {
    let (queue, client) = (env.queue("orders", by_key(2)), env.connect().await?);
    client.declare(&queue.topology()).await?;
    client.publish(queue.spread(20, 2)).await?;
    let mut first = client.join(queue.options().revoke_within(Duration::from_millis(300))).await?;
    let held = first.take(40).await?;
    let began = tokio::time::Instant::now();
    let mut second = client.join(queue.options()).await?;
    let partitions = loop {
        if let Event::Revoking { partitions, .. } = first.next().await? {
            break partitions;
        }
    };
    // It does not listen. The successor waits until the time is over.
    let moved: HashSet<&str> = ids(&held)
        .into_iter()
        .zip(&held)
        .filter(|(_, d)| partitions.contains(&d.partition))
        .map(|(id, _)| id)
        .collect();
    let again = second.take(moved.len()).await?;
    ensure!(began.elapsed() >= Duration::from_millis(200), "the successor waited {:?} of 300 ms", began.elapsed());
    ensure!(ids(&again).into_iter().collect::<HashSet<_>>() == moved, "other messages went over: {:?}", ids(&again));
    let lost = loop {
        match first.next().await? {
            Event::Lost(lost) => break lost,
            Event::Deliveries(got) => ensure!(got.is_empty(), "a partition that is lost gets messages"),
            _ => {}
        }
    };
    ensure!(lost == partitions, "{partitions:?} went, {lost:?} was told to be lost");
    // Late settlements are void.
    first.settle(&held);
    first.flush().await?;
    first.consumer().release(&partitions).await?;
    drop(second);
    let mut third = client.join(queue.options()).await?;
    drop(first);
    let rest = third.drain(moved.len()).await?;
    ensure!(
        moved.is_subset(&ids(&rest).into_iter().collect()),
        "a message that was settled too late does not come again"
    );
    Ok(())
}

async fn scale(env: &Env) -> CaseResult {
    const EACH: usize = 100;
    let (queue, client) = (env.queue("orders", by_key(16)), env.connect().await?);
    client.declare(&queue.topology()).await?;
    let quiet = Arc::new(AtomicBool::new(false));
    let consume = |client: Client, queue: Queue, stop: Arc<AtomicBool>| {
        tokio::spawn(async move {
            let mut member = client.join(queue.options()).await?;
            while !stop.load(Ordering::Relaxed) {
                match member.next_within(Duration::from_millis(20)).await? {
                    Some(Event::Deliveries(got)) => member.settle(&got),
                    Some(Event::Revoking { partitions, .. }) => member.consumer().release(&partitions).await?,
                    _ => {}
                }
            }
            member.close().await
        })
    };
    let mut running = vec![(consume(client.clone(), queue.clone(), quiet.clone()), quiet)];
    for (step, batch) in queue.spread(KEYS, EACH).chunks(EACH * KEYS / 16).enumerate() {
        client.publish(batch.to_vec()).await?;
        if step < 7 {
            let stop = Arc::new(AtomicBool::new(false));
            running.push((consume(client.clone(), queue.clone(), stop.clone()), stop));
        } else if running.len() > 1 {
            let (task, stop) = running.remove(0);
            stop.store(true, Ordering::Relaxed);
            task.await.map_err(|error| error.to_string())??;
        }
    }
    env.until("all messages", |counts| counts.delivered >= KEYS * EACH).await?;
    for (task, stop) in running {
        stop.store(true, Ordering::Relaxed);
        task.await.map_err(|error| error.to_string())??;
    }
    check::one_owner(&env.history())?;
    check::nothing_lost(&env.history())?;
    // Each member settles its messages before it leaves or releases: so nothing has to come twice.
    Ok(check::each_once(&env.history())?)
}

use std::time::{Duration, Instant};

use partitura_broker::{ErrorKind, Event, ProducerOptions};

use crate::case::case;
use crate::client::{A_MOMENT, by_key, ids};
use crate::stop::{ensure, ensure_same};
use crate::{Case, CaseResult, Env, check};

pub(super) const CASES: &[Case] = &[
    case!(
        "confirm.durable",
        Three,
        [Processes, Restart, Durability],
        "messages confirmed before kill -9 of the broker are delivered after it",
        durable,
        publishes_without_end
    ),
    case!(
        "confirm.lost_then_retried",
        One,
        [],
        "a publisher that lost the confirm retries under the same id: the key's order holds, and nothing is lost",
        lost_then_retried
    ),
    case!(
        "reconnect.broker_restart",
        Three,
        [Processes, Restart, Durability],
        "10,000 messages across several kills of the broker: nothing confirmed is lost, each key in order",
        broker_restart,
        publishes_its_share
    ),
    case!("dedupe.window", One, [Deduplication], "the same id within the declared window arrives once", dedupe),
    case!(
        "hold.beyond_timeout",
        One,
        [],
        "a message held for more than half of the broker's bound, or for long where it has none, is still owned, also while others are settled",
        hold
    ),
];

async fn durable(env: &Env) -> CaseResult {
    for round in 1..=3 {
        let before = env.recorder.counts().borrow().confirmed;
        let part = env.start("publishes_without_end").await?;
        env.until("confirms", |counts| counts.confirmed >= before + 300 * round).await?;
        env.kill_broker(part).await?;
    }
    let (queue, client) = (env.orders(), env.connect().await?);
    client.declare(&queue.topology()).await?;
    let end = || (0..8).map(|key| format!("k{key}"));
    client.publish(end().map(|key| queue.message(&key, usize::MAX)).collect()).await?;
    let mut member = client.join(queue.options()).await?;
    member.drain_until(end().map(|key| format!("{key}-{}", usize::MAX))).await?;
    Ok(check::nothing_lost(&env.history())?)
}

/// Publishes batches to several keys, several at once.
async fn publishes_without_end(env: &Env) -> CaseResult {
    let (queue, client) = (env.orders(), env.connect().await?);
    client.declare(&queue.topology()).await?;
    // Numbers that grow from life to life.
    let first = crate::client::now().as_millis() as usize * 1_000;
    let publishers = (0..8).map(|key| {
        let (queue, client, key) = (queue.clone(), client.clone(), format!("k{key}"));
        async move {
            for number in (first..).step_by(5) {
                client.publish(queue.messages(&key, number..number + 5)).await?;
            }
            CaseResult::Ok(())
        }
    });
    futures::future::try_join_all(publishers).await.map(drop)
}

async fn lost_then_retried(env: &Env) -> CaseResult {
    const EACH: usize = 200;
    let (queue, client) = (env.queue("orders", by_key(2)), env.connect().await?);
    client.declare(&queue.topology()).await?;
    let mut options = ProducerOptions::default();
    options.confirm_within = Duration::from_micros(30);
    let (hasty, calm) = (client.broker().producer(options).await?, client.producer().await?);
    let mut lost = 0;
    for message in queue.messages("k", 0..EACH) {
        match hasty.publish(vec![message.clone()]).await.remove(0) {
            Ok(_) => continue,
            Err(error) if error.kind() == ErrorKind::OutcomeUnknown => lost += 1,
            Err(error) => return Err(error.into()),
        }
        // Nothing of the key is published before this is confirmed.
        calm.publish(vec![message]).await.remove(0)?;
    }
    env.note(format!("{lost} of {EACH} confirms were lost"));
    let mut member = client.join(queue.options()).await?;
    let mut first = Vec::new();
    while first.len() < EACH {
        let got = member.deliveries().await?;
        member.settle(&got);
        for id in ids(&got) {
            if !first.contains(&id.to_owned()) {
                first.push(id.to_owned());
            }
        }
    }
    let expected: Vec<String> = (0..EACH).map(|number| format!("k-{number}")).collect();
    ensure_same(&first, &expected)?;
    Ok(check::nothing_lost(&env.history())?)
}

const SHARE: usize = 2_500;
const KEYS: usize = 10;

async fn broker_restart(env: &Env) -> CaseResult {
    for _ in 0..4 {
        let before = env.recorder.counts().borrow().confirmed;
        let part = env.start("publishes_its_share").await?;
        env.until("a share", |counts| counts.confirmed >= before + SHARE).await?;
        env.kill_broker(part).await?;
    }
    let (queue, client) = (env.orders(), env.connect().await?);
    client.declare(&queue.topology()).await?;
    client.publish(queue.spread(KEYS, 1).into_iter().map(|m| crate::client::renamed(m, "end")).collect()).await?;
    let mut member = client.join(queue.options()).await?;
    member.drain_until((0..KEYS).map(|key| format!("end-k{key}-0"))).await?;
    check::in_order(&env.history())?;
    Ok(check::nothing_lost(&env.history())?)
}

/// Publishes 2,500 messages to ten keys, and settles most of them at the same time.
async fn publishes_its_share(env: &Env) -> CaseResult {
    let (queue, client) = (env.orders(), env.connect().await?);
    client.declare(&queue.topology()).await?;
    let first = crate::client::now().as_millis() as usize * 1_000;
    let (reader, options) = (client.clone(), queue.options());
    tokio::spawn(async move {
        let mut member = reader.join(options).await?;
        loop {
            let got = member.deliveries().await?;
            // Some of it is left to the next life.
            let done: Vec<_> = got.into_iter().filter(|got| got.token.slot % 7 > 0).collect();
            member.settle(&done);
        }
        #[expect(unreachable_code, reason = "says what the task gives back")]
        CaseResult::Ok(())
    });
    for number in first..first + SHARE / KEYS {
        client.publish((0..KEYS).map(|key| queue.message(&format!("k{key}"), number)).collect()).await?;
    }
    env.hold().await
}

async fn dedupe(env: &Env) -> CaseResult {
    let (queue, client) = (env.orders(), env.connect().await?);
    client.declare(&queue.topology()).await?;
    for _ in 0..3 {
        client.publish(queue.spread(4, 5)).await?;
    }
    client.publish((0..4).map(|key| queue.message(&format!("k{key}"), 5)).collect()).await?;
    let mut member = client.join(queue.options()).await?;
    member.drain_until((0..4).map(|key| format!("k{key}-5"))).await?;
    Ok(check::each_once(&env.history())?)
}

/// The time for which messages are held where there is no bound. It is longer than the time after which adapters miss a
/// silent member.
const UNBOUNDED: Duration = Duration::from_secs(10);

async fn hold(env: &Env) -> CaseResult {
    // One partition: that another one is assigned, a little later, would be a change too.
    let (queue, client) = (env.queue("orders", by_key(1)), env.connect().await?);
    client.declare(&queue.topology()).await?;
    client.publish(queue.messages("k", 0..3)).await?;
    let mut member = client.join(queue.options()).await?;
    let held = member.take(3).await?;
    let held_for = env.capabilities().hold.map_or(UNBOUNDED, |bound| bound.mul_f64(0.6));
    ensure!(
        held_for <= 4 * env.time_limit,
        "{held_for:?} is too long to be waited for; let the harness connect with a shorter bound, or set a longer time limit"
    );
    // Other keys go on meanwhile: their messages come and are settled behind those that are held.
    let (began, mut number) = (Instant::now(), 0);
    while began.elapsed() < held_for {
        client.publish(queue.messages("busy", [number])).await?;
        match member.next().await? {
            Event::Deliveries(got) if got.iter().all(|got| got.message.id.as_str().starts_with("busy-")) => {
                member.settle(&got);
            }
            other => return Err(format!("while messages are held comes {other:?}").into()),
        }
        number += 1;
        tokio::time::sleep(A_MOMENT).await;
    }
    member.settle(&held);
    member.flush().await?;
    drop(member);
    client.publish(queue.messages("k", [3])).await?;
    let rest = client.join(queue.options()).await?.drain(1).await?;
    ensure!(ids(&rest) == ["k-3"], "k-3 was expected, {:?} came", ids(&rest));
    Ok(())
}

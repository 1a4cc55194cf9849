use crate::case::case;
use crate::client::{by_key, ids};
use crate::stop::{ensure, ensure_same};
use crate::{Case, CaseResult, Env, check};

pub(super) const CASES: &[Case] = &[
    case!(
        "ack.crash_redelivers",
        Two,
        [Processes, Durability],
        "the unsettled messages of a killed process come again, flagged; the settled ones do not",
        crash_redelivers,
        holds_ten
    ),
    case!(
        "ack.one_of_batch",
        Two,
        [Processes, Durability],
        "one message of a batch settled, then SIGKILL: exactly the others come again",
        one_of_batch,
        settles_one
    ),
    case!(
        "ack.out_of_order",
        Two,
        [Processes, Durability],
        "3 and 1 settled, then SIGKILL: 2 comes again",
        out_of_order,
        settles_three_and_one
    ),
    case!(
        "ack.stale_epoch",
        One,
        [],
        "a settlement from a term that is over does not settle the new owner's delivery",
        stale_epoch
    ),
    case!("ack.double", One, [], "settling twice is harmless", double),
];

async fn crash_redelivers(env: &Env) -> CaseResult {
    let queue = env.orders();
    let part = env.start("holds_ten").await?;
    env.until("ten deliveries, and a flush", |counts| counts.delivered >= 10 && counts.flushed >= 1).await?;
    part.kill().await?;
    let client = env.connect().await?;
    client.declare(&queue.topology()).await?;
    let mut member = client.join(queue.options()).await?;
    let again = member.drain_until(queue.messages("k", 4..10).iter().map(|message| message.id.to_string())).await?;
    ensure!(again.iter().all(|delivery| delivery.redelivered), "a redelivery is not flagged: {again:?}");
    // The contract's checks find messages that come again although they were settled and flushed.
    Ok(())
}

/// Publishes ten messages, takes them all, settles four and holds the others.
async fn holds_ten(env: &Env) -> CaseResult {
    let (queue, client) = (env.orders(), env.connect().await?);
    client.declare(&queue.topology()).await?;
    client.publish(queue.messages("k", 0..10)).await?;
    let mut member = client.join(queue.options()).await?;
    let held = member.take(10).await?;
    member.settle(&held[..4]);
    member.flush().await?;
    env.hold().await
}

async fn one_of_batch(env: &Env) -> CaseResult {
    let queue = env.orders();
    let part = env.start("settles_one").await?;
    env.until("a flush", |counts| counts.flushed >= 1).await?;
    part.kill().await?;
    let client = env.connect().await?;
    client.declare(&queue.topology()).await?;
    let mut member = client.join(queue.options()).await?;
    client.publish(queue.messages("k", [10])).await?;
    let again = member.drain_until(["k-10".to_owned()]).await?;
    let expected: Vec<String> = (0..=10).filter(|n| *n != 4).map(|n| format!("k-{n}")).collect();
    ensure_same(&ids(&again), &expected)?;
    Ok(())
}

/// Publishes one batch, and settles the fifth message of it.
async fn settles_one(env: &Env) -> CaseResult {
    let (queue, client) = (env.orders(), env.connect().await?);
    client.declare(&queue.topology()).await?;
    client.publish(queue.messages("k", 0..10)).await?;
    let mut member = client.join(queue.options()).await?;
    let held = member.take(10).await?;
    member.settle(&held[4..5]);
    member.flush().await?;
    env.hold().await
}

async fn out_of_order(env: &Env) -> CaseResult {
    let queue = env.orders();
    let part = env.start("settles_three_and_one").await?;
    env.until("a flush", |counts| counts.flushed >= 1).await?;
    part.kill().await?;
    let client = env.connect().await?;
    client.declare(&queue.topology()).await?;
    let mut member = client.join(queue.options()).await?;
    client.publish(queue.messages("k", [4])).await?;
    let again = member.drain_until(["k-4".to_owned()]).await?;
    ensure!(ids(&again) == ["k-2", "k-4"], "k-2 and k-4 were expected, {:?} came", ids(&again));
    Ok(())
}

/// Publishes 1, 2 and 3, and settles 3, then 1.
async fn settles_three_and_one(env: &Env) -> CaseResult {
    let (queue, client) = (env.orders(), env.connect().await?);
    client.declare(&queue.topology()).await?;
    client.publish(queue.messages("k", 1..=3)).await?;
    let mut member = client.join(queue.options()).await?;
    let held = member.take(3).await?;
    member.settle(&held[2..]);
    member.settle(&held[..1]);
    member.flush().await?;
    env.hold().await
}

async fn stale_epoch(env: &Env) -> CaseResult {
    let (queue, client) = (env.queue("orders", by_key(1)), env.connect().await?);
    client.declare(&queue.topology()).await?;
    client.publish(queue.messages("k", 0..4)).await?;
    // The first owner is too slow to give its only partition back: it is lost, and goes to the second.
    let mut first = client.join(queue.options()).await?;
    let old = first.take(4).await?;
    drop(first);
    let mut second = client.join(queue.options()).await?;
    second.settle(&old);
    second.flush().await?;
    let held = second.take(4).await?;
    second.settle(&old);
    second.settle(&held[..1]);
    second.flush().await?;
    drop(second);
    let mut third = client.join(queue.options()).await?;
    third.settle(&old);
    third.settle(&held);
    let again = third.drain(3).await?;
    ensure!(ids(&again) == ["k-1", "k-2", "k-3"], "k-1 to k-3 were expected, {:?} came", ids(&again));
    Ok(())
}

async fn double(env: &Env) -> CaseResult {
    let (queue, client) = (env.queue("orders", by_key(1)), env.connect().await?);
    client.declare(&queue.topology()).await?;
    client.publish(queue.messages("k", 0..3)).await?;
    let mut member = client.join(queue.options()).await?;
    let held = member.take(3).await?;
    member.settle(&held[..1]);
    member.settle(&held[..1]);
    // The next message may use the place of a settled one; the old token must not settle it.
    client.publish(queue.messages("k", 3..6)).await?;
    member.take(3).await?;
    member.settle(&held[..1]);
    member.flush().await?;
    drop(member);
    let mut member = client.join(queue.options()).await?;
    let again = member.drain(5).await?;
    ensure!(ids(&again) == ["k-1", "k-2", "k-3", "k-4", "k-5"], "k-1 to k-5 were expected, {:?} came", ids(&again));
    Ok(check::nothing_lost(&env.history())?)
}

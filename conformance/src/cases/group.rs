use std::collections::HashSet;
use std::time::Duration;

use partitura_broker::{ConsumerOptions, ErrorKind, Ordering, TopicKind};

use crate::case::{case, ensure};
use crate::client::{by_key, credit, ids};
use crate::{Case, CaseResult, Env, check};

pub(super) const CASES: &[Case] = &[
    case!(
        "group.broadcast",
        One,
        [],
        "of a stream each subscription and each listener gets everything; within a subscription it is shared out",
        broadcast
    ),
    case!(
        "group.balanced",
        One,
        [],
        "consumers of an ordered subscription share its partitions evenly, each with one owner",
        balanced
    ),
    case!(
        "group.several_topics",
        One,
        [],
        "topics of one subscription are owned together: partition n of all of them has one owner",
        several_topics
    ),
    case!(
        "shared.competing",
        One,
        [],
        "competitors share the work, a slow one holds only its own, and what it held goes to others when it leaves",
        competing
    ),
    case!(
        "publish.audience",
        One,
        [],
        "what the broker says about an audience is true: no means that nobody would get it",
        audience
    ),
];

async fn broadcast(env: &Env) -> CaseResult {
    let (queue, client) = (env.queue("events", by_key(4)), env.connect().await?);
    let second = env.queue("others", by_key(4)).subscription;
    client.declare(&queue.stream().subscription(second.clone(), [queue.topic.clone()])).await?;
    let mut listeners = Vec::new();
    for _ in 0..2 {
        listeners.push(client.join(ConsumerOptions::broadcast(queue.topic.clone())).await?);
    }
    let others = ConsumerOptions::new(second, [queue.topic.clone()]);
    let (mut alone, mut one, mut two) =
        (client.join(others).await?, client.join(queue.options()).await?, client.join(queue.options()).await?);
    client.publish(queue.spread(20, 5)).await?;
    for listener in &mut listeners {
        listener.drain(100).await?;
    }
    alone.drain(100).await?;
    let mut shared_out = 0;
    while shared_out < 100 {
        let got =
            tokio::select! { got = one.deliveries() => (&mut one, got?), got = two.deliveries() => (&mut two, got?) };
        got.0.settle(&got.1);
        shared_out += got.1.len();
    }
    let queue_only = env.orders();
    client.declare(&queue_only.topology()).await?;
    let refused = client.broker().consumer(ConsumerOptions::broadcast(queue_only.topic.clone())).await.err();
    let kind = refused.map(|error| error.kind());
    ensure!(kind == Some(ErrorKind::InvalidArgument), "a queue cannot be listened to: {kind:?}");
    check::nothing_lost(&env.history())?;
    Ok(check::each_once(&env.history())?)
}

async fn balanced(env: &Env) -> CaseResult {
    let (queue, client) = (env.queue("orders", by_key(12)), env.connect().await?);
    client.declare(&queue.topology()).await?;
    let mut members = Vec::new();
    for _ in 0..3 {
        members.push(client.join(queue.options()).await?);
    }
    client.publish(queue.spread(200, 1)).await?;
    let mut partitions: [HashSet<u32>; 3] = Default::default();
    let consuming = members.iter_mut().zip(&mut partitions).map(async |(member, own)| -> CaseResult {
        loop {
            let got = member.deliveries().await?;
            member.settle(&got);
            own.extend(got.iter().map(|got| got.partition.0));
        }
    });
    tokio::select! {
        done = env.until("200 messages", |counts| counts.delivered >= 200) => done?,
        failed = futures::future::try_join_all(consuming) => drop(failed?),
    }
    let shares: Vec<usize> = partitions.iter().map(HashSet::len).collect();
    ensure!(shares.iter().sum::<usize>() == 12, "12 partitions are shared out as {shares:?}");
    ensure!(shares.iter().all(|share| (3..=5).contains(share)), "12 partitions are shared out as {shares:?}");
    Ok(check::one_owner(&env.history())?)
}

async fn several_topics(env: &Env) -> CaseResult {
    let (main, parking, client) = (env.queue("main", by_key(4)), env.queue("parking", by_key(4)), env.connect().await?);
    let both = [main.topic.clone(), parking.topic.clone()];
    let topology = main.topology().queue(both[1].clone(), parking.ordering);
    let topology = partitura_broker::Topology { subscriptions: vec![], ..topology };
    client.declare(&topology.subscription(main.subscription.clone(), both.clone())).await?;
    let options = || ConsumerOptions::new(main.subscription.clone(), both.clone());
    let (mut one, mut two) = (client.join(options()).await?, client.join(options()).await?);
    client.publish(main.spread(30, 1)).await?;
    client.publish(parking.spread(30, 1).into_iter().map(|m| m.header("parked", "yes")).collect()).await?;
    let mut owners: [HashSet<u32>; 2] = Default::default();
    let mut count = 0;
    while count < 60 {
        let (owner, got) = tokio::select! {
            got = one.deliveries() => (0, got?),
            got = two.deliveries() => (1, got?),
        };
        if owner == 0 {
            one.settle(&got)
        } else {
            two.settle(&got)
        }
        count += got.len();
        owners[owner].extend(got.iter().map(|got| got.partition.0));
    }
    ensure!(owners[0].is_disjoint(&owners[1]), "a partition has two owners: {owners:?}");
    Ok(check::nothing_lost(&env.history())?)
}

async fn competing(env: &Env) -> CaseResult {
    let (queue, client) = (env.queue("work", Ordering::Shared), env.connect().await?);
    client.declare(&queue.topology()).await?;
    let mut slow = client.join(queue.options().credit(credit(5))).await?;
    client.publish(queue.messages("k", 0..20)).await?;
    let held = slow.take(5).await?;
    let mut quick = client.join(queue.options()).await?;
    client.publish(queue.messages("k", 20..100)).await?;
    let got = quick.drain(95).await?;
    ensure!(got.len() == 95, "the slow one holds 5 of 100, the other got {}", got.len());
    // The slow one waits for more, which it may not have, and does not keep it from the other.
    let waiting = tokio::spawn(async move {
        let more = slow.next_within(Duration::from_millis(200)).await;
        (slow, more)
    });
    for i in 100..110 {
        let (got, published) = tokio::join!(quick.drain(1), client.publish(queue.messages("k", [i])));
        published?;
        got?;
    }
    let (mut slow, more) = waiting.await.map_err(|error| error.to_string())?;
    ensure!(more?.is_none(), "the slow one got more than its credit");
    slow.settle(&held[..2]);
    slow.flush().await?;
    drop(slow);
    let rest = quick.drain(3).await?;
    let expected: HashSet<&str> = ids(&held[2..]).into_iter().collect();
    ensure!(
        ids(&rest).into_iter().collect::<HashSet<_>>() == expected,
        "{expected:?} were expected, {:?} came",
        ids(&rest)
    );
    ensure!(rest.iter().all(|again| again.redelivered), "a redelivery is not flagged");
    Ok(check::nothing_lost(&env.history())?)
}

async fn audience(env: &Env) -> CaseResult {
    let (heard, unheard, client) =
        (env.queue("heard", by_key(1)), env.queue("unheard", by_key(1)), env.connect().await?);
    client.declare(&heard.stream()).await?;
    ensure!(client.broker().has_audience(&heard.topic), "a durable subscription is an audience");
    client
        .declare(&partitura_broker::Topology::new().topic(partitura_broker::Topic {
            name: unheard.topic.clone(),
            kind: TopicKind::Stream,
            ordering: unheard.ordering,
        }))
        .await?;
    let mut listener = client.join(ConsumerOptions::broadcast(unheard.topic.clone())).await?;
    ensure!(client.broker().has_audience(&unheard.topic), "a listener is an audience");
    client.publish(unheard.messages("k", 0..2)).await?;
    listener.drain(2).await?;
    Ok(())
}

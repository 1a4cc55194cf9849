use std::collections::HashSet;
use std::time::Duration;

use partitura_broker::{ConsumerOptions, ErrorKind, Event, Message, Ordering, TopicKind};

use crate::case::case;
use crate::client::{Client, Member, by_key, credit, ids, renamed};
use crate::stop::ensure;
use crate::{Case, CaseResult, Env, Stop, check};

pub(super) const CASES: &[Case] = &[
    case!(
        "group.slowest",
        One,
        [],
        "a stream keeps its messages until the slowest durable subscription has settled them, whatever others did",
        slowest
    ),
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
        "group.one_topic",
        One,
        [],
        "a broadcast of several topics, and a consumer without a topic or with one twice, are refused as invalid",
        one_topic
    ),
    case!(
        "group.clocks_differ",
        One,
        [],
        "consumers whose clocks are five minutes ahead and behind share the partitions, and take over those that one leaves",
        clocks_differ
    ),
    case!(
        "shared.competing",
        One,
        [],
        "competitors share the work, a slow one holds only its own, and others get its messages when it leaves",
        competing
    ),
    case!(
        "publish.subscribers",
        One,
        [],
        "the broker denies subscribers only if no consumer would receive a message",
        subscribers
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

async fn slowest(env: &Env) -> CaseResult {
    const EACH: usize = 5;
    let (queue, client) = (env.queue("events", by_key(4)), env.connect().await?);
    let slow = env.queue("slow", by_key(4)).subscription;
    client.declare(&queue.stream().subscription(slow.clone(), [queue.topic.clone()])).await?;
    let mut quick = client.join(queue.options()).await?;
    for round in 0..3 {
        client.publish(queue.spread(20, EACH).into_iter().map(|m| renamed(m, &round.to_string())).collect()).await?;
        quick.drain(20 * EACH).await?;
        quick.flush().await?;
    }
    quick.close().await?;
    // Two thirds are settled by one consumer of it, which leaves; the rest by the next.
    let slow = || ConsumerOptions::new(slow.clone(), [queue.topic.clone()]);
    let mut first = client.join(slow()).await?;
    let got = first.drain(40 * EACH).await?;
    first.close().await?;
    client.join(slow()).await?.drain(60 * EACH - got.len()).await?;
    check::nothing_lost(&env.history())?;
    Ok(check::each_once(&env.history())?)
}

async fn one_topic(env: &Env) -> CaseResult {
    let (queue, client) = (env.queue("events", by_key(4)), env.connect().await?);
    let other = env.queue("others", by_key(4));
    client.declare(&queue.stream()).await?;
    client.declare(&other.stream()).await?;
    let (first, second) = (&queue.topic, &other.topic);
    let broadcast = |topics: Vec<_>| {
        let mut options = ConsumerOptions::broadcast(first.clone());
        options.topics = topics;
        options
    };
    for (options, asked_for) in [
        (broadcast(vec![first.clone(), second.clone()]), "a broadcast of two topics"),
        (broadcast(vec![]), "a broadcast of no topic"),
        (ConsumerOptions::new(queue.subscription.clone(), []), "a subscription's consumer without a topic"),
        (ConsumerOptions::new(queue.subscription.clone(), [first.clone(), first.clone()]), "a topic twice"),
    ] {
        let kind = client.broker().consumer(options).await.err().map(|error| error.kind());
        ensure!(kind == Some(ErrorKind::InvalidArgument), "{asked_for} is not refused as invalid: {kind:?}");
    }
    // One consumer for each topic is the way to do it.
    let (mut one, mut two) = (
        client.join(ConsumerOptions::broadcast(first.clone())).await?,
        client.join(ConsumerOptions::broadcast(second.clone())).await?,
    );
    client.publish(queue.messages("k", 0..2)).await?;
    client.publish(other.messages("k", 0..2)).await?;
    one.drain(2).await?;
    two.drain(2).await?;
    Ok(())
}

async fn balanced(env: &Env) -> CaseResult {
    let (queue, client) = (env.queue("orders", by_key(12)), env.connect().await?);
    client.declare(&queue.topology()).await?;
    let mut members = Vec::new();
    for _ in 0..3 {
        members.push(client.join(queue.options()).await?);
    }
    // They settle in as fast as the broker lets them, which a round of messages shows sooner or later.
    let settling_in = async {
        for round in 0.. {
            let batch = queue.spread(200, 1).into_iter().map(|message| renamed(message, &round.to_string()));
            let shares: Vec<usize> =
                sources(&client, &mut members, batch.collect()).await?.iter().map(HashSet::len).collect();
            env.note(format!("12 partitions are shared out as {shares:?}"));
            if shares.iter().sum::<usize>() == 12 && shares.iter().all(|share| (3..=5).contains(share)) {
                break;
            }
        }
        CaseResult::Ok(())
    };
    env.within("12 partitions to be shared out evenly among 3 consumers", settling_in).await??;
    Ok(check::one_owner(&env.history())?)
}

async fn clocks_differ(env: &Env) -> CaseResult {
    const MINUTE: i64 = 60_000;
    let (queue, clients) = (env.queue("orders", by_key(6)), env.connections(3).await?);
    clients[0].declare(&queue.topology()).await?;
    let mut members = Vec::new();
    for (client, minutes) in clients.iter().zip([0, 5, -5]) {
        client.broker().clock().correct(minutes * MINUTE);
        members.push(client.join(queue.options()).await?);
    }
    let shared_out = async {
        let mut steady = 0;
        // Longer than a member may be silent: one that is taken for dead loses partitions meanwhile.
        for round in 0.. {
            let batch = queue.spread(60, 1).into_iter().map(|message| renamed(message, &round.to_string()));
            let shares: Vec<usize> =
                sources(&clients[0], &mut members, batch.collect()).await?.iter().map(HashSet::len).collect();
            env.note(format!("6 partitions are shared out as {shares:?}"));
            steady = if shares == [2, 2, 2] { steady + 1 } else { 0 };
            if steady == 8 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        CaseResult::Ok(())
    };
    env.within("6 partitions to stay with 3 consumers whose clocks differ", shared_out).await??;
    // One that is ahead is gone without a word.
    drop(members.remove(1));
    let batch = queue.spread(60, 1).into_iter().map(|message| renamed(message, "last"));
    let taking_over = sources(&clients[0], &mut members, batch.collect());
    env.within("two consumers to take over the partitions of the third", taking_over).await??;
    check::nothing_lost(&env.history())?;
    Ok(check::one_owner(&env.history())?)
}

/// Publishes a batch, and says from which partitions each of the members got messages until all of it had come.
async fn sources(client: &Client, members: &mut [Member], batch: Vec<Message>) -> Result<Vec<HashSet<u32>>, Stop> {
    let named = |message: &Message| (message.topic.clone(), message.id.clone());
    let mut missing: HashSet<_> = batch.iter().map(named).collect();
    client.publish(batch).await?;
    let mut sources = vec![HashSet::new(); members.len()];
    while !missing.is_empty() {
        let waiting = members.iter_mut().map(|member| Box::pin(member.next_without_limit()));
        let (event, which, _) = futures::future::select_all(waiting).await;
        match event? {
            Event::Deliveries(got) => {
                members[which].settle(&got);
                sources[which].extend(got.iter().map(|got| got.partition.0));
                for got in &got {
                    missing.remove(&named(&got.message));
                }
            }
            Event::Revoking { partitions, .. } => members[which].consumer().release(&partitions).await?,
            _ => {}
        }
    }
    Ok(sources)
}

async fn several_topics(env: &Env) -> CaseResult {
    let (main, parking, client) = (env.queue("main", by_key(4)), env.queue("parking", by_key(4)), env.connect().await?);
    let both = [main.topic.clone(), parking.topic.clone()];
    let topology = main.topology().queue(both[1].clone(), parking.ordering);
    let topology = partitura_broker::Topology { subscriptions: vec![], ..topology };
    client.declare(&topology.subscription(main.subscription.clone(), both.clone())).await?;
    let options = || ConsumerOptions::new(main.subscription.clone(), both.clone());
    let mut members = [client.join(options()).await?, client.join(options()).await?];
    let settling_in = async {
        for round in 0.. {
            let batch = [main.spread(30, 1), parking.spread(30, 1)].concat();
            let batch = batch.into_iter().map(|message| renamed(message, &round.to_string())).collect();
            let owned = sources(&client, &mut members, batch).await?;
            env.note(format!("the partitions of both topics: {owned:?}"));
            if owned.iter().all(|owned| !owned.is_empty()) && owned[0].is_disjoint(&owned[1]) {
                break;
            }
        }
        CaseResult::Ok(())
    };
    env.within("each partition, of both topics, to have one of two owners", settling_in).await??;
    check::one_owner(&env.history())?;
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

async fn subscribers(env: &Env) -> CaseResult {
    let (heard, unheard, client) =
        (env.queue("heard", by_key(1)), env.queue("unheard", by_key(1)), env.connect().await?);
    client.declare(&heard.stream()).await?;
    ensure!(client.broker().has_subscribers(&heard.topic), "a durable subscription is a subscriber");
    client
        .declare(&partitura_broker::Topology::new().topic(partitura_broker::Topic {
            name: unheard.topic.clone(),
            kind: TopicKind::Stream,
            ordering: unheard.ordering,
        }))
        .await?;
    let mut listener = client.join(ConsumerOptions::broadcast(unheard.topic.clone())).await?;
    ensure!(client.broker().has_subscribers(&unheard.topic), "a listener is a subscriber");
    // Others come and go: a subscription is durable, and another listener is still there.
    client.join(heard.options()).await?.close().await?;
    client.join(ConsumerOptions::broadcast(unheard.topic.clone())).await?.close().await?;
    ensure!(client.broker().has_subscribers(&heard.topic), "a subscription without a consumer is a subscriber");
    ensure!(client.broker().has_subscribers(&unheard.topic), "a listener is a subscriber when another one has left");
    client.publish(unheard.messages("k", 0..2)).await?;
    listener.drain(2).await?;
    client.publish(heard.messages("k", 0..2)).await?;
    client.join(heard.options()).await?.drain(2).await?;
    Ok(check::nothing_lost(&env.history())?)
}

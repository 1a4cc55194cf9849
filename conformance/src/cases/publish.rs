use std::collections::HashMap;

use bytes::Bytes;
use partitura_broker::{ErrorKind, Message, Ordering};

use crate::case::case;
use crate::client::by_key;
use crate::stop::ensure;
use crate::{Case, CaseResult, Env, check};

pub(super) const CASES: &[Case] = &[
    case!(
        "publish.confirmed_is_delivered",
        One,
        [],
        "a confirmed message is delivered once, byte for byte",
        confirmed_is_delivered
    ),
    case!(
        "publish.batch_results",
        One,
        [],
        "each message of a batch has its own result, and one that is refused fails alone",
        batch_results
    ),
    case!("publish.many_topics", One, [], "twenty topics do not mix", many_topics),
    case!(
        "publish.concurrent",
        One,
        [],
        "fifty publishers and many consumers at once lose and mix nothing",
        concurrent
    ),
    case!(
        "publish.partition",
        One,
        [],
        "a receipt names the partition of the key, and the message comes from there",
        partition
    ),
];

async fn confirmed_is_delivered(env: &Env) -> CaseResult {
    let (queue, client) = (env.orders(), env.connect().await?);
    client.declare(&queue.topology()).await?;
    let message = |i: usize| {
        let payload: Vec<u8> = (0..i % 701).map(|b| (b * i) as u8).collect();
        let mut message = Message::new(queue.topic.clone(), format!("id-{i}"), payload).key(vec![b'k', (i % 64) as u8]);
        (0..i % 5).for_each(|h| message.headers.append("größe-\u{1f3bc}", vec![h as u8; i % 17]));
        message
    };
    let sent: Vec<Message> = (0..1_000).map(message).collect();
    for batch in sent.chunks(90) {
        client.publish(batch.to_vec()).await?;
    }
    let mut member = client.join(queue.options()).await?;
    let got = member.drain_until(sent.iter().map(|message| message.id.to_string())).await?;
    let got: HashMap<&str, &Message> = got.iter().map(|d| (d.message.id.as_str(), &d.message)).collect();
    for message in &sent {
        ensure!(
            got.get(message.id.as_str()) == Some(&message),
            "{message:?} arrived as {:?}",
            got.get(message.id.as_str())
        );
    }
    check::nothing_lost(&env.history())?;
    Ok(check::each_once(&env.history())?)
}

async fn batch_results(env: &Env) -> CaseResult {
    let (queue, client) = (env.orders(), env.connect().await?);
    client.declare(&queue.topology()).await?;
    let too_large = Bytes::from(vec![0; env.capabilities().limits.payload + 1]);
    let nowhere = env.queue("nowhere", queue.ordering);
    let mut batch = queue.spread(5, 3);
    batch[7].payload = too_large;
    batch[11].topic = nowhere.topic;
    let refused = [(7, ErrorKind::PayloadTooLarge), (11, ErrorKind::NotFound)];
    let results = client.try_publish(batch.clone()).await?;
    for (at, result) in results.iter().enumerate() {
        let expected = refused.iter().find(|(which, _)| *which == at).map(|(_, kind)| *kind);
        let found = result.as_ref().err().map(|error| error.kind());
        ensure!(found == expected, "message {at}: {expected:?} was expected, {found:?} came");
    }
    let confirmed = batch.iter().zip(&results).filter(|(_, result)| result.is_ok());
    let mut member = client.join(queue.options()).await?;
    member.drain_until(confirmed.map(|(message, _)| message.id.to_string())).await?;
    Ok(check::nothing_lost(&env.history())?)
}

async fn many_topics(env: &Env) -> CaseResult {
    let client = env.connect().await?;
    let queues: Vec<_> = (0..20).map(|i| env.queue(&format!("topic{i}"), by_key(3))).collect();
    for queue in &queues {
        client.declare(&queue.topology()).await?;
    }
    // One batch with all topics in it.
    client.publish((0..10).flat_map(|i| queues.iter().map(move |queue| queue.message("k", i))).collect()).await?;
    for queue in &queues {
        let mut member = client.join(queue.options()).await?;
        for delivery in member.drain(10).await? {
            ensure!(delivery.message.topic == queue.topic, "{} came on {}", delivery.message.topic, queue.topic);
        }
    }
    check::nothing_lost(&env.history())?;
    Ok(check::each_once(&env.history())?)
}

/// Settles whatever comes, until it is aborted.
async fn settle_all(mut member: crate::client::Member) -> CaseResult {
    loop {
        if let partitura_broker::Event::Deliveries(deliveries) = member.next_without_limit().await? {
            member.settle(&deliveries);
        }
    }
}

async fn concurrent(env: &Env) -> CaseResult {
    const PUBLISHERS: usize = 50;
    const EACH: usize = 100;
    let (queue, client) = (env.queue("orders", Ordering::Shared), env.connect().await?);
    client.declare(&queue.topology()).await?;
    let mut members = Vec::new();
    for _ in 0..20 {
        members.push(client.join(queue.options()).await?);
    }
    let publishing = (0..PUBLISHERS).map(|publisher| {
        let (client, batch) = (client.clone(), queue.messages(&format!("p{publisher}"), 0..EACH));
        tokio::spawn(async move {
            for chunk in batch.chunks(10) {
                client.publish(chunk.to_vec()).await?;
            }
            CaseResult::Ok(())
        })
    });
    let publishing: Vec<_> = publishing.collect();
    let consuming = members.into_iter().map(|member| tokio::spawn(settle_all(member)));
    let consuming: Vec<_> = consuming.collect();
    for publisher in publishing {
        publisher.await.map_err(|error| error.to_string())??;
    }
    env.until("all 5,000 messages", |counts| counts.delivered >= PUBLISHERS * EACH).await?;
    consuming.iter().for_each(tokio::task::JoinHandle::abort);
    check::nothing_lost(&env.history())?;
    Ok(check::each_once(&env.history())?)
}

async fn partition(env: &Env) -> CaseResult {
    let (queue, client) = (env.queue("orders", by_key(7)), env.connect().await?);
    client.declare(&queue.topology()).await?;
    let batch = queue.spread(50, 1);
    let receipts = client.publish(batch.clone()).await?;
    for (message, receipt) in batch.iter().zip(&receipts) {
        let expected = partitura_broker::partition_of(message.key.as_deref().unwrap_or_default(), 7);
        ensure!(receipt.partition == expected, "{}: {expected:?} was expected, {receipt:?} came", message.id);
    }
    let mut member = client.join(queue.options()).await?;
    member.drain(50).await?;
    // That each came from the partition of its key is part of the contract's checks.
    Ok(())
}

use std::num::NonZeroUsize;
use std::time::Duration;

use bytes::Bytes;
use partitura_broker::{ConsumerOptions, Credit, Event, Message, ProducerOptions, Topology};

use crate::case::case;
use crate::client::{by_key, credit};
use crate::stop::ensure;
use crate::{Case, CaseResult, Env, check};

pub(super) const CASES: &[Case] = &[
    case!(
        "flow.credit_bound",
        One,
        [],
        "a consumer that does not settle gets no more than its credit, and the rest when it does",
        credit_bound
    ),
    case!(
        "flow.credit_bytes",
        One,
        [],
        "the credit bounds bytes too, and one message larger than all of it comes alone",
        credit_bytes
    ),
    case!(
        "flow.fair_topics",
        One,
        [],
        "unsettled messages of one topic never keep back another topic of the same consumer",
        fair_topics
    ),
    case!(
        "flow.window",
        One,
        [],
        "a batch larger than the producer's window passes, and so do many publishers behind a narrow one",
        window
    ),
];

/// Long enough for something that is there to come, as nothing else says that nothing comes.
const A_MOMENT: Duration = Duration::from_millis(100);

async fn credit_bound(env: &Env) -> CaseResult {
    let backlog = env.load(10_000, 2_000);
    let (queue, client) = (env.orders(), env.connect().await?);
    client.declare(&queue.topology()).await?;
    for batch in queue.spread(50, backlog / 50).chunks(1_000) {
        client.publish(batch.to_vec()).await?;
    }
    let mut member = client.join(queue.options().credit(credit(100))).await?;
    let held = member.take(100).await?;
    ensure!(held.len() == 100, "{} messages came, the credit is 100", held.len());
    while let Some(event) = member.next_within(A_MOMENT).await? {
        ensure!(!matches!(event, Event::Deliveries(_)), "more than the credit comes: {event:?}");
    }
    member.settle(&held[..40]);
    let more = member.take(40).await?;
    member.settle(&held[40..]);
    member.settle(&more);
    member.drain(backlog - 140).await?;
    check::within_credit(&env.history())?;
    Ok(check::nothing_lost(&env.history())?)
}

async fn credit_bytes(env: &Env) -> CaseResult {
    let (queue, client) = (env.queue("orders", by_key(1)), env.connect().await?);
    client.declare(&queue.topology()).await?;
    let sized = |i: usize, bytes: usize| Message { payload: Bytes::from(vec![7; bytes]), ..queue.message("k", i) };
    client.publish((0..20).map(|i| sized(i, if i == 10 { 9_000 } else { 990 })).collect()).await?;
    let bytes = NonZeroUsize::new(3_000).unwrap_or(NonZeroUsize::MIN);
    let mut member = client.join(queue.options().credit(Credit { bytes, ..Credit::default() })).await?;
    let mut got = 0;
    while got < 20 {
        let held = member.take(1).await?;
        got += held.len();
        member.settle(&held);
    }
    check::within_credit(&env.history())?;
    Ok(check::each_once(&env.history())?)
}

async fn fair_topics(env: &Env) -> CaseResult {
    let (slow, quick, client) = (env.queue("slow", by_key(4)), env.queue("quick", by_key(4)), env.connect().await?);
    let both = [slow.topic.clone(), quick.topic.clone()];
    let topology = Topology::new()
        .queue(both[0].clone(), slow.ordering)
        .queue(both[1].clone(), quick.ordering)
        .subscription(slow.subscription.clone(), both.clone());
    client.declare(&topology).await?;
    client.publish(slow.spread(10, 100)).await?;
    let options = ConsumerOptions::new(slow.subscription.clone(), both).credit(credit(50));
    let mut member = client.join(options).await?;
    let held = member.take(50).await?;
    // Of the slow topic nothing is settled. The other flows.
    client.publish(quick.spread(10, 20)).await?;
    for _ in 0..4 {
        let got = member.take(50).await?;
        ensure!(got.iter().all(|got| got.message.topic == quick.topic), "more of the slow topic comes");
        member.settle(&got);
    }
    member.settle(&held);
    member.drain(950).await?;
    check::within_credit(&env.history())?;
    Ok(check::nothing_lost(&env.history())?)
}

async fn window(env: &Env) -> CaseResult {
    let (queue, client) = (env.orders(), env.connect().await?);
    client.declare(&queue.topology()).await?;
    let mut narrow = ProducerOptions::default();
    narrow.window = NonZeroUsize::new(3).unwrap_or(NonZeroUsize::MIN);
    let producer = client.broker().producer(narrow).await?;
    let publishing =
        futures::future::join_all((0..30).map(|i| producer.publish(queue.messages(&format!("k{i}"), 0..i))));
    let results = env.within("30 batches through a window of 3", publishing).await?;
    for (i, results) in results.into_iter().enumerate() {
        ensure!(results.len() == i, "{} results for {i} messages", results.len());
        results.into_iter().collect::<Result<Vec<_>, _>>()?;
    }
    client.join(queue.options()).await?.drain((0..30).sum()).await?;
    Ok(check::nothing_lost(&env.history())?)
}

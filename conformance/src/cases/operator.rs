//! The hand of an operator, under consumers that run.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use partitura_broker::{ConsumerOptions, Event, Message, Ordering};
use tokio::task::JoinSet;

use crate::case::case;
use crate::client::{A_MOMENT, Client, Queue, now, renamed};
use crate::harness::Operator;
use crate::{Case, CaseResult, Env, Record, Stop};

pub(super) const CASES: &[Case] = &[
    case!(
        "operator.topic_deleted",
        Three,
        [Operator],
        "a topic that is deleted and declared again under running consumers delivers all that is confirmed from then on, delayed messages included",
        topic_deleted
    ),
    case!(
        "operator.partitions_added",
        Three,
        [Operator, Growth],
        "a topic that gets more partitions under running consumers delivers everything, from the old ones and from the new ones",
        partitions_added
    ),
    case!(
        "operator.settled_freed",
        One,
        [Operator, Count],
        "the broker keeps a message of a stream until all subscriptions have settled it, and no longer",
        settled_freed
    ),
];

const KEYS: usize = 40;
const CONSUMERS: usize = 2;
const BEFORE: u32 = 4;
const AFTER: u32 = 6;
const DELAY: Duration = Duration::from_secs(2);

fn operator(env: &Env) -> Result<&dyn Operator, Stop> {
    env.harness.operator().ok_or_else(|| "the case needs an operator and does not say so".into())
}

fn round(queue: &Queue, name: &str, each: usize) -> Vec<Message> {
    queue.spread(KEYS, each).into_iter().map(|message| renamed(message, name)).collect()
}

fn delayed(queue: &Queue) -> Vec<Message> {
    let due = now() + DELAY;
    round(queue, "due", 2).into_iter().map(|message| message.not_before(due)).collect()
}

async fn topic_deleted(env: &Env) -> CaseResult {
    let (queue, client) = (env.orders(), env.connect_for_slow_faults().await?);
    client.declare(&queue.topology()).await?;
    let _consumers = consumers(&client, &queue);
    all_own(env).await?;
    publish(env, &client, round(&queue, "old", 15)).await?;
    operator(env)?.delete_topic(&queue.topic).await?;
    env.note("the topic is deleted");
    declare_at_last(env, &client, &queue).await?;
    // More than before: the new topic is soon longer than the old one was. They have no keys, since no order is
    // promised before the consumers have noticed.
    publish(env, &client, without_keys(round(&queue, "new", 60))).await?;
    publish(env, &client, without_keys(delayed(&queue))).await
}

fn without_keys(batch: Vec<Message>) -> Vec<Message> {
    batch.into_iter().map(|message| Message { key: None, ..message }).collect()
}

async fn partitions_added(env: &Env) -> CaseResult {
    let (queue, client) =
        (env.queue("orders", Ordering::ByKey { partitions: BEFORE }), env.connect_for_slow_faults().await?);
    client.declare(&queue.topology()).await?;
    let _consumers = consumers(&client, &queue);
    all_own(env).await?;
    publish(env, &client, round(&queue, "before", 15)).await?;
    // From here on, any client may know it.
    env.recorder.note(Record::Topic { topic: queue.topic.to_string(), partitions: Some(AFTER) });
    operator(env)?.add_partitions(&queue.topic, AFTER).await?;
    env.note(format!("the topic has {AFTER} partitions"));
    // A consumer that joins makes all of them agree again.
    let _another = consumers(&client, &queue);
    // No order is promised while a client may learn of them at any time, and keys change their partitions.
    publish(env, &client, without_keys(round(&queue, "meanwhile", 15))).await?;
    let grown = Queue { ordering: Ordering::ByKey { partitions: AFTER }, ..queue };
    let later = env.connect_for_slow_faults().await?;
    declare_at_last(env, &later, &grown).await?;
    publish(env, &later, round(&grown, "after", 15)).await?;
    publish(env, &later, delayed(&grown)).await
}

async fn settled_freed(env: &Env) -> CaseResult {
    const COUNT: usize = 200;
    let (queue, client) = (env.queue("events", Ordering::ByKey { partitions: BEFORE }), env.connect().await?);
    let slow = env.queue("slow", queue.ordering).subscription;
    client.declare(&queue.stream().subscription(slow.clone(), [queue.topic.clone()])).await?;
    client.publish(queue.spread(KEYS, COUNT / KEYS)).await?;
    for (subscription, is_last) in [(queue.subscription.clone(), false), (slow, true)] {
        let mut member = client.join(ConsumerOptions::new(subscription, [queue.topic.clone()])).await?;
        member.drain(COUNT).await?;
        member.flush().await?;
        member.close().await?;
        let counting = async {
            loop {
                let count = operator(env)?.count_messages(&queue.topic).await?;
                env.note(format!("the broker keeps {count} messages"));
                // A count may be a few seconds old.
                if is_last == (count == 0) {
                    return CaseResult::Ok(());
                }
                tokio::time::sleep(A_MOMENT).await;
            }
        };
        env.within("the broker to keep what one subscription has not settled, and nothing else", counting).await??;
    }
    Ok(())
}

/// Consumers that settle whatever comes, and join again where there was nothing to consume for a while. They end when
/// this is dropped.
fn consumers(client: &Client, queue: &Queue) -> JoinSet<()> {
    let mut all = JoinSet::new();
    for _ in 0..CONSUMERS {
        let (client, queue) = (client.clone(), queue.clone());
        all.spawn(async move {
            loop {
                if let Ok(member) = client.join(queue.options()).await {
                    // Its error is that of a topic that is gone.
                    let _ = consume(member).await;
                }
                tokio::time::sleep(A_MOMENT).await;
            }
        });
    }
    all
}

/// Waits until each consumer has a partition: the operator acts while nobody comes or goes.
async fn all_own(env: &Env) -> CaseResult {
    let owners = |history: &crate::History| {
        let owner = |entry: &crate::Entry| match &entry.record {
            Record::Assigned { consumer, .. } => Some(*consumer),
            _ => None,
        };
        history.entries().iter().filter_map(owner).collect::<HashSet<u32>>().len()
    };
    env.reaches("each consumer to own a partition", |history| owners(history) >= CONSUMERS).await
}

async fn consume(mut member: crate::client::Member) -> CaseResult {
    loop {
        match member.next_without_limit().await? {
            Event::Deliveries(deliveries) => member.settle(&deliveries),
            Event::Revoking { partitions, .. } => member.consumer().release(&partitions).await?,
            _ => {}
        }
    }
}

/// Declares. The name of a topic may be taken for a moment after the topic is gone.
async fn declare_at_last(env: &Env, client: &Client, queue: &Queue) -> CaseResult {
    let declaring = async {
        while let Err(stop) = client.declare(&queue.topology()).await {
            env.note(format!("declaring again: {stop}"));
            tokio::time::sleep(A_MOMENT).await;
        }
    };
    env.within("the topic to be declared again", declaring).await
}

/// Publishes, and waits until everything has come and was settled.
async fn publish(env: &Env, client: &Client, batch: Vec<Message>) -> CaseResult {
    let ids: Arc<HashSet<String>> = Arc::new(batch.iter().map(|message| message.id.to_string()).collect());
    client.publish(batch).await?;
    let mut missing = (*ids).clone();
    let coming = async {
        let mut seen = 0;
        loop {
            let history = env.history();
            for entry in &history.entries()[seen.min(history.entries().len())..] {
                if let Record::Delivered(got) = &entry.record {
                    missing.remove(&got.message.id);
                }
            }
            if missing.is_empty() {
                return;
            }
            // Entries of the same time may still move.
            seen = history.entries().len().saturating_sub(100);
            tokio::time::sleep(A_MOMENT).await;
        }
    };
    let came = tokio::time::timeout(2 * env.time_limit, coming).await;
    came.map_err(|_| {
        let first = ids.iter().find(|id| missing.contains(*id)).cloned().unwrap_or_default();
        Stop::new(format!("{} of {} confirmed messages did not come, {first} for one", missing.len(), ids.len()))
    })
}

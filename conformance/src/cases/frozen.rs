//! Several processes at one broker, of which one stands still or dies.

use std::time::Duration;

use partitura_broker::{InboxAddress, Message};

use crate::case::case;
use crate::client::{A_MOMENT, Client, Queue, by_key, credit, now, renamed};
use crate::process::Part;
use crate::stop::ensure;
use crate::{Case, CaseResult, Env, Record, Stop, check};

pub(super) const CASES: &[Case] = &[
    case!(
        "order.owner_frozen",
        Two,
        [Processes, Durability, Peers],
        "the partitions of a process that stands still go to another; when it goes on, its late settlements are void, and each key stays in order",
        owner_frozen,
        owns
    ),
    case!(
        "delay.process_killed",
        Two,
        [Processes, Durability, Peers],
        "delayed messages of a process that is killed come in time, since they are with the broker",
        process_killed,
        delays
    ),
    case!(
        "delay.process_frozen",
        Two,
        [Processes, Durability, Peers],
        "the same of a process that stands still, also when it goes on; each comes a few times at most",
        process_frozen,
        delays
    ),
    case!(
        "inbox.processes",
        Two,
        [Processes, Durability, Peers],
        "a process answers the requests of another one at the address of its inbox",
        across_processes,
        asks
    ),
];

const KEYS: usize = 20;
/// Messages of a process that delays them.
const DELAYED: usize = 60;
/// The time from the publishing to the first due moment. The process is killed or frozen within it, however slow the
/// machine is: otherwise the case would say nothing.
const AHEAD: Duration = Duration::from_secs(30);
/// The time for which a process lives on after its late settlements. Adapters send them in the background.
const LATE_FOR: Duration = Duration::from_secs(2);
/// Requests of a process that asks.
const REQUESTS: usize = 10;

fn round(queue: &Queue, name: &str) -> Vec<Message> {
    queue.spread(KEYS, 5).into_iter().map(|message| renamed(message, name)).collect()
}

fn texts(messages: &[Message]) -> impl Iterator<Item = String> {
    messages.iter().map(|message| message.id.to_string())
}

async fn owner_frozen(env: &Env) -> CaseResult {
    let (queue, client) = (env.orders(), env.connect_for_slow_faults().await?);
    client.declare(&queue.topology()).await?;
    client.publish(round(&queue, "before")).await?;
    let part = env.start("owns").await?;
    env.until("the process to hold messages", |counts| counts.delivered >= 60 && counts.flushed >= 1).await?;
    part.freeze().await?;
    client.publish(round(&queue, "meanwhile")).await?;
    let mut member = client.join(queue.options()).await?;
    // The partitions have to come from the one that stands still.
    let first = member.drain_until(texts(&round(&queue, "meanwhile"))).await?;
    ensure!(first.len() >= 100, "{} messages came", first.len());
    part.thaw().await?;
    let told = |entry: &crate::Entry| matches!(&entry.record, Record::Note(text) if text == LATE);
    env.reaches("the process to settle late", |history| history.entries().iter().any(told)).await?;
    part.kill().await?;
    client.publish(round(&queue, "after")).await?;
    member.drain_until(texts(&round(&queue, "after"))).await?;
    check::repeats_order(&env.history())?;
    Ok(check::nothing_lost(&env.history())?)
}

/// The message of a process that has settled late.
const LATE: &str = "has settled what it held when it was frozen";

/// Settles some, holds the rest, and settles that when it notices that it was frozen.
async fn owns(env: &Env) -> CaseResult {
    let (queue, client) = (env.orders(), env.connect().await?);
    let mut member = client.join(queue.options().credit(credit(60))).await?;
    let held = member.take(60).await?;
    member.settle(&held[..10]);
    member.flush().await?;
    let mut before = std::time::SystemTime::now();
    // The wall clock goes on while a process stands still.
    while before.elapsed().is_ok_and(|gone| gone < Duration::from_secs(2)) {
        before = std::time::SystemTime::now();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    member.settle(&held[10..]);
    // It takes no more deliveries: those that its client has buffered may be another owner's by now.
    let sending = async {
        loop {
            // This fails where the client knows that its partitions are lost.
            let _ = member.flush().await;
            tokio::time::sleep(A_MOMENT).await;
        }
    };
    let _ = tokio::time::timeout(LATE_FOR, sending).await;
    env.note(LATE);
    env.hold().await
}

/// Starts a process that delays messages, beside a member that reads them.
async fn with_delays(env: &Env) -> Result<(Part, Queue, Client, crate::client::Member), Stop> {
    // With a mutant nothing ever comes.
    let patience = if env.subject.mutant.is_some() { env.time_limit } else { 4 * env.time_limit };
    let (queue, client) = (env.orders(), env.connect_within(AHEAD + patience).await?);
    client.declare(&queue.topology()).await?;
    let part = env.start("delays").await?;
    env.until("the delayed messages to be confirmed", |counts| counts.confirmed >= DELAYED).await?;
    let member = client.join(queue.options()).await?;
    Ok((part, queue, client, member))
}

/// Ensures that the process could send none of the delayed messages itself when they fell due.
fn none_is_due(env: &Env) -> CaseResult {
    let history = env.history();
    let due = history.entries().iter().filter_map(|entry| match &entry.record {
        Record::Publishing { sent, .. } => sent.due,
        _ => None,
    });
    let first = due.min().ok_or("no delayed message was published")?;
    ensure!(now().as_millis() < first, "the process lived until a message fell due: this machine is too slow");
    Ok(())
}

async fn process_killed(env: &Env) -> CaseResult {
    let (part, queue, _client, mut member) = with_delays(env).await?;
    part.kill().await?;
    none_is_due(env)?;
    member.drain_until(texts(&queue.spread(KEYS, DELAYED / KEYS))).await?;
    check::never_early(&env.history())?;
    Ok(check::nothing_lost(&env.history())?)
}

async fn process_frozen(env: &Env) -> CaseResult {
    let (part, queue, client, mut member) = with_delays(env).await?;
    part.freeze().await?;
    none_is_due(env)?;
    member.drain_until(texts(&queue.spread(KEYS, DELAYED / KEYS))).await?;
    part.thaw().await?;
    // Its late messages come before these, or soon after.
    let due = now() + Duration::from_secs(3) + env.capabilities().delay.lateness;
    let last: Vec<_> = round(&queue, "last").into_iter().map(|message| message.not_before(due)).collect();
    client.publish(last.clone()).await?;
    member.drain_until(texts(&last)).await?;
    let history = env.history();
    let copies = history.deliveries().count();
    ensure!(copies <= 3 * (DELAYED + last.len()), "{copies} copies came of {} messages", DELAYED + last.len());
    drop(part);
    Ok(check::nothing_lost(&history)?)
}

/// Publishes delayed messages, is a member of their subscription for a moment, and lives on.
async fn delays(env: &Env) -> CaseResult {
    let (queue, client) = (env.orders(), env.connect().await?);
    let member = client.join(queue.options()).await?;
    member.close().await?;
    let start = now() + AHEAD;
    let delayed = |(i, message): (usize, Message)| message.not_before(start + Duration::from_millis(20 * i as u64));
    client.publish(queue.spread(KEYS, DELAYED / KEYS).into_iter().enumerate().map(delayed).collect()).await?;
    env.hold().await
}

async fn across_processes(env: &Env) -> CaseResult {
    let (requests, answers) = (env.queue("requests", by_key(2)), env.queue("answers", by_key(2)));
    let client = env.connect().await?;
    client.declare(&requests.topology()).await?;
    client.declare(&answers.topology()).await?;
    let producer = client.producer().await?;
    let part = env.start("asks").await?;
    let mut member = client.join(requests.options()).await?;
    let mut answered = 0;
    while answered < REQUESTS {
        for request in member.drain(1).await? {
            let address = request.message.headers.get_str("reply-to").ok_or("the request has no address")?;
            let reply = Message::new(request.message.topic.clone(), request.message.id.clone(), "answer");
            producer.reply(vec![(InboxAddress::new(address), reply)]).await?;
            answered += 1;
        }
    }
    let mut member = client.join(answers.options()).await?;
    member.drain_until((0..REQUESTS).map(|number| format!("answered-k-{number}"))).await?;
    part.kill().await
}

/// Asks, and publishes each answer that it gets.
async fn asks(env: &Env) -> CaseResult {
    let (requests, answers) = (env.queue("requests", by_key(2)), env.queue("answers", by_key(2)));
    let client = env.connect().await?;
    let mut inbox = client.broker().inbox().await?;
    for number in 0..REQUESTS {
        let request = requests.message("k", number).header("reply-to", inbox.address().as_str().to_owned());
        client.publish(vec![request]).await?;
        let answer = env.within("an answer", inbox.next()).await??;
        client.publish(vec![renamed(answers.message("k", number), "answered")]).await?;
        ensure!(answer.id.as_str() == format!("k-{number}"), "the answer to {number} is {}", answer.id);
    }
    env.hold().await
}

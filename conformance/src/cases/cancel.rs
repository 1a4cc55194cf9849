use std::collections::HashSet;
use std::time::Duration;

use futures::future::join_all;
use partitura_broker::{Message, Producer, Timestamp};

use crate::case::case;
use crate::client::{A_MOMENT, Client, Queue, by_key, now};
use crate::stop::{ensure, ensure_same};
use crate::{Case, CaseResult, Env, Record, Stop, check};

pub(super) const CASES: &[Case] = &[
    case!(
        "delay.cancel",
        One,
        [Cancellation],
        "a message that is cancelled while it waits is delivered to no subscription; all others are; each answer says which it was",
        cancel
    ),
    case!(
        "delay.cancel_race",
        One,
        [Cancellation],
        "cancelled at about its moment a message was cancelled, or it comes, once, and the answer says which",
        race
    ),
    case!(
        "delay.cancel_survives_restart",
        Three,
        [Cancellation, Processes, Restart, Durability],
        "cancelled messages are not delivered after kill -9 of the broker, and all others are",
        survives_restart,
        publishes_and_cancels
    ),
];

const KEYS: usize = 4;
const HOUR: Duration = Duration::from_secs(3_600);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn texts<'m>(messages: impl IntoIterator<Item = &'m Message>) -> Vec<String> {
    messages.into_iter().map(|message| message.id.to_string()).collect()
}

/// This many rounds of a message of each key, due five milliseconds after each other from `first` on.
fn rounds(queue: &Queue, rounds: usize, first: Timestamp) -> Vec<Message> {
    let all = queue.spread(KEYS, rounds).into_iter().zip(0..);
    all.map(|(message, i)| message.not_before(first + ms(5 * i))).collect()
}

/// Those of every other round, and the others, which the last belongs to.
fn halves(messages: &[Message]) -> (Vec<&Message>, Vec<&Message>) {
    let all: Vec<(usize, &Message)> = messages.iter().enumerate().collect();
    let (some, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|(i, _)| (i / KEYS).is_multiple_of(2));
    (some.into_iter().map(|(_, message)| message).collect(), others.into_iter().map(|(_, message)| message).collect())
}

async fn cancel(env: &Env) -> CaseResult {
    let client = env.connect().await?;
    answers(env, &client).await?;
    let mut wait = ms(1_500);
    // A machine that is too busy to cancel in time has more of it the next time.
    for round in 0..4 {
        if soon(env, &client, round, wait).await? {
            return Ok(());
        }
        wait *= 4;
    }
    Err("nothing could be cancelled in time".into())
}

/// A message that is due in an hour is cancelled once, and its id is free again.
async fn answers(env: &Env, client: &Client) -> CaseResult {
    let queue = env.queue("answers", by_key(4));
    client.declare(&queue.topology()).await?;
    let mut member = client.join(queue.options()).await?;
    let delivered = queue.message("done", 0).not_before(now() + ms(50));
    let mut waiting = rounds(&queue, 8, now() + HOUR);
    // Some without a key, and one whose id needs care.
    waiting.extend(["none-1", "none 2", "no.ne>*%3"].map(|id| {
        let message = Message::new(queue.topic.clone(), id.replace(' ', "~"), id.to_owned());
        message.not_before(now() + HOUR)
    }));
    client.publish(waiting.iter().chain([&delivered]).cloned().collect()).await?;
    member.drain_until(texts([&delivered])).await?;

    let never_there = queue.message("k0", 99).not_before(now() + HOUR);
    let (some, others) = halves(&waiting);
    let asked = some.iter().copied().chain([&never_there, &delivered]).collect::<Vec<_>>();
    let mut expected = vec![true; some.len()];
    expected.extend([false, false]);
    let found = client.cancel(asked.iter().copied()).await?;
    let of_each = |answers: Vec<bool>| texts(asked.iter().copied()).into_iter().zip(answers).collect::<Vec<_>>();
    ensure_same(&of_each(found), &of_each(expected))?;
    let again = client.cancel(some.iter().copied()).await?;
    ensure!(!again.contains(&true), "a cancelled message is cancelled again: {again:?}");
    // Published again it is a new message, to be cancelled or to come.
    let again: Vec<Message> = some.iter().map(|message| (*message).clone().not_before(now() + HOUR / 2)).collect();
    client.publish(again.clone()).await?;
    let found = client.cancel(&again).await?;
    ensure!(!found.contains(&false), "a message that was published again is not there: {found:?}");
    let again: Vec<Message> = again.into_iter().map(|message| message.not_before(now() + ms(20))).collect();
    client.publish(again.clone()).await?;
    member.drain_until(texts(&again)).await?;
    // The others were left alone.
    let left = client.cancel(others.iter().copied()).await?;
    ensure!(!left.contains(&false), "a message that was not cancelled is gone: {left:?}");
    Ok(())
}

/// Cancels half of the messages due after `wait`, of a queue and of a stream with two subscriptions and a listener. The
/// other half comes. Returns whether any message could be cancelled before it was due.
async fn soon(env: &Env, client: &Client, round: u32, wait: Duration) -> Result<bool, Stop> {
    let queue = env.queue(&format!("orders{round}"), by_key(4));
    let stream = env.queue(&format!("events{round}"), by_key(2));
    let second =
        Queue { subscription: format!("{}-2", stream.subscription).parse().map_err(|_| "a name")?, ..stream.clone() };
    client.declare(&queue.topology()).await?;
    client.declare(&stream.stream()).await?;
    client.declare(&second.stream()).await?;
    let mut members = [
        client.join(queue.options()).await?,
        client.join(stream.options()).await?,
        client.join(second.options()).await?,
        client.join(partitura_broker::ConsumerOptions::broadcast(stream.topic.clone())).await?,
    ];
    let mut any = true;
    let mut expected = Vec::new();
    for queue in [&queue, &stream] {
        let messages = rounds(queue, 10, now() + wait);
        client.publish(messages.clone()).await?;
        let (some, others) = halves(&messages);
        let answers = client.cancel(some.iter().copied()).await?;
        any &= answers.contains(&true);
        let too_late = some.iter().zip(answers).filter(|(_, cancelled)| !cancelled).map(|(message, _)| *message);
        expected.push(texts(others.iter().copied().chain(too_late)));
    }
    for (member, of) in members.iter_mut().zip([0, 1, 1, 1]) {
        member.drain_until(expected[of].iter().cloned()).await?;
    }
    check::each_once(&env.history())?;
    check::nothing_lost(&env.history())?;
    Ok(any)
}

async fn race(env: &Env) -> CaseResult {
    const EACH: usize = 50;
    let (queue, client) = (env.queue("orders", by_key(4)), env.connect().await?);
    client.declare(&queue.topology()).await?;
    let mut member = client.join(queue.options()).await?;
    let (first, mut chance) = (now() + ms(1_500), env.chance());
    let messages = rounds(&queue, EACH, first);
    let last = queue.messages("k0", [EACH]).remove(0).not_before(first + ms(1_500));
    client.publish(messages.iter().chain([&last]).cloned().collect()).await?;
    let producer = client.producer().await?;
    // Some to the millisecond, some a little before; the broker may count a message that is about to come as gone.
    let moment = |i: usize| if i.is_multiple_of(2) { 995 + chance.below(10) } else { 200 + chance.below(900) };
    let moments: Vec<u64> = (0..messages.len()).map(moment).collect();
    let cancelling = join_all(messages.iter().zip(moments).map(|(message, moment)| {
        let at = message.not_before.unwrap_or_default().as_millis() + moment;
        cancel_at(&*producer, message, Timestamp::from_millis(at.saturating_sub(1_000)))
    }));
    let (answers, came) = tokio::join!(env.within("answers", cancelling), member.drain_until(texts([&last])));
    let mut came: HashSet<String> = came?.iter().map(|delivery| delivery.message.id.to_string()).collect();
    let mut missing = Vec::new();
    for (message, answer) in messages.iter().zip(answers?) {
        // An attempt without an answer may have been the one that cancelled.
        if answer? == Some(false) && !came.remove(message.id.as_str()) {
            missing.push(message.id.to_string());
        }
    }
    member.drain_until(missing).await?;
    check::each_once(&env.history())?;
    Ok(check::nothing_lost(&env.history())?)
}

/// Cancels a message at a moment. `None` where an attempt had no answer and the next found nothing.
async fn cancel_at(producer: &dyn Producer, message: &Message, moment: Timestamp) -> Result<Option<bool>, Stop> {
    tokio::time::sleep(moment.since(now())).await;
    let mut unanswered = false;
    loop {
        match producer.cancel(message.delayed().into_iter().collect()).await.pop() {
            Some(Ok(false)) if unanswered => return Ok(None),
            Some(Ok(cancelled)) => return Ok(Some(cancelled)),
            Some(Err(error)) if error.is_retryable() => unanswered = true,
            Some(Err(error)) => return Err(error.into()),
            None => return Err("no answer for one message".into()),
        }
        tokio::time::sleep(A_MOMENT).await;
    }
}

const ROUNDS: usize = 25;

async fn survives_restart(env: &Env) -> CaseResult {
    let queue = env.orders();
    let part = env.start("publishes_and_cancels").await?;
    env.until("all answers", |counts| counts.notes > 0).await?;
    let cancelled = cancelled(env);
    ensure!(!cancelled.is_empty(), "nothing could be cancelled in time");
    env.kill_broker(part).await?;
    let client = env.connect().await?;
    client.declare(&queue.topology()).await?;
    let mut member = client.join(queue.options()).await?;
    let all = texts(&queue.spread(KEYS, ROUNDS)).into_iter();
    member.drain_until(all.filter(|id| !cancelled.contains(id))).await?;
    Ok(check::nothing_lost(&env.history())?)
}

fn cancelled(env: &Env) -> HashSet<String> {
    let history = env.history();
    let entries = history.entries().iter();
    entries
        .filter_map(|entry| match &entry.record {
            Record::Cancelled { id, outcome: Ok(true), .. } => Some(id.clone()),
            _ => None,
        })
        .collect()
}

/// Publishes messages that are due in a few seconds, and cancels half of them.
async fn publishes_and_cancels(env: &Env) -> CaseResult {
    let (queue, client) = (env.orders(), env.connect().await?);
    client.declare(&queue.topology()).await?;
    let messages = rounds(&queue, ROUNDS, now() + ms(5_000));
    client.publish(messages.clone()).await?;
    client.cancel(halves(&messages).0).await?;
    env.note("answered");
    env.hold().await
}

//! Dead letters on the broker under test.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use partitura_broker::Message;
use partitura_lanes::{DeadLetter, DeadLetters, LaneOptions, Outcome, Retry};

use crate::case::case;
use crate::client::{ids, now};
use crate::lanes::LaneQueue;
use crate::stop::{ensure, ensure_same};
use crate::{Case, CaseResult, Env, Record, Stop, check};

pub(super) const CASES: &[Case] = &[
    case!(
        "dlq.metadata",
        One,
        [],
        "a dead letter has payload, key and headers as they were, and says why, how often, from where and when",
        metadata
    ),
    case!(
        "dlq.atomic",
        Two,
        [Processes, Durability],
        "a process killed while it buries loses nothing: each message is a dead letter, or comes again",
        atomic,
        buries
    ),
    case!(
        "dlq.redrive",
        One,
        [],
        "dead letters are sent again by id or by choice, in order within a key, and not without end",
        redrive
    ),
    case!(
        "dlq.failed_publish",
        One,
        [],
        "while dead letters cannot be published, nothing is settled, and other keys flow",
        failed_publish
    ),
    case!("obs.trace", One, [], "the headers of a trace survive delay, retry and burial", trace),
];

const TRACE: [(&str, &str); 2] =
    [("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), ("tracestate", "a=1,b=2")];

async fn metadata(env: &Env) -> CaseResult {
    let (lanes, client) = (LaneQueue::new(env), env.connect().await?);
    lanes.declare(&client).await?;
    let options = LaneQueue::options().retry(Retry::fixed(Duration::from_millis(1)).max_attempts(3));
    let handle = |_, _| async { Outcome::retry("the card was declined") };
    let running = lanes.run(env, &client, options, handle).await?;
    let began = now();
    let mut sent = lanes
        .queue
        .message("k", 1)
        .key(vec![b'k', 0xff, 0])
        .header("binary", vec![0, 0xff, 7])
        .header("content-type", "x/y");
    sent.headers.append("twice", "1");
    sent.headers.append("twice", "2");
    sent.payload = (0..=255).cycle().take(5_000).collect::<Vec<u8>>().into();
    let partition = client.publish(vec![sent.clone()]).await?[0].partition;
    let letters = lanes.dead_letters(env, &client)?;
    let dead = until_dead(env, &letters, 1).await?.remove(0);
    running.stop().await?;
    ensure!(dead.message == sent, "the message changed: {:?}", dead.message);
    ensure!(dead.attempts == 3, "{} attempts instead of 3", dead.attempts);
    ensure!(dead.partition == partition, "from partition {} instead of {partition}", dead.partition);
    ensure!(dead.subscription == lanes.queue.subscription.as_str(), "of the subscription {}", dead.subscription);
    ensure!(dead.at >= began && dead.at <= now(), "at {}, which is not between {began} and {}", dead.at, now());
    let text = format!("{} {}", dead.reason, dead.error.as_deref().unwrap_or_default());
    ensure!(text.contains("the card was declined"), "the reason is lost: {text:?}");
    Ok(())
}

const MANY: usize = 400;

async fn atomic(env: &Env) -> CaseResult {
    let lanes = LaneQueue::new(env);
    let part = env.start("buries").await?;
    env.until("burials", |counts| counts.ended >= MANY / 4).await?;
    part.kill().await?;
    let client = env.connect().await?;
    lanes.declare(&client).await?;
    // Buried or still there, in one of the two topics: nothing else.
    let topics = lanes.both_topics()?.topics;
    let mut last = Vec::new();
    for (number, topic) in topics.iter().enumerate() {
        let named = |message| crate::client::renamed(message, &format!("end{number}"));
        let all = lanes.queue.spread(8, 1).into_iter().map(named);
        last.extend(all.map(|message| Message { topic: topic.clone(), ..message }));
    }
    let ends: Vec<_> = last.iter().map(|message| message.id.to_string()).collect();
    client.publish(last).await?;
    let left = client.join(lanes.both_topics()?).await?.drain_until(ends).await?;
    let dead = lanes.dead_letters(env, &client)?.list(10 * MANY).await?;
    let mut found: HashSet<String> = ids(&left).into_iter().map(str::to_owned).collect();
    found.extend(dead.iter().map(|dead| dead.id().to_string()));
    let lost: Vec<Message> =
        lanes.queue.spread(8, MANY / 8).into_iter().filter(|m| !found.contains(m.id.as_str())).collect();
    ensure!(lost.is_empty(), "{} messages are neither dead letters nor left, {} for one", lost.len(), lost[0].id);
    ensure!(!dead.is_empty(), "nothing was buried before the process was killed");
    Ok(())
}

/// Buries everything, as fast as it goes.
async fn buries(env: &Env) -> CaseResult {
    let (lanes, client) = (LaneQueue::new(env), env.connect().await?);
    lanes.declare(&client).await?;
    client.publish(lanes.queue.spread(8, MANY / 8)).await?;
    let handle = |_, _| async { Outcome::dead("poison") };
    let _running = lanes.run(env, &client, LaneQueue::options(), handle).await?;
    env.hold().await
}

async fn redrive(env: &Env) -> CaseResult {
    let (lanes, client) = (LaneQueue::new(env), env.connect().await?);
    lanes.declare(&client).await?;
    let letters = lanes.dead_letters(env, &client)?.max_redrives(2);
    let poison = lanes.run(env, &client, LaneQueue::options(), |_, _| async { Outcome::dead("poison") }).await?;
    client.publish(lanes.queue.spread(3, 4)).await?;
    until_dead(env, &letters, 12).await?;
    // By id, and by choice; the poison kills them again.
    let one = letters.redrive_one(&"k1-2".into()).await?;
    let key = letters.redrive(|dead| dead.message.key.as_deref() == Some(b"k2")).await?;
    ensure!((one.redriven, key.redriven) == (1, 4), "1 and 4 were meant, {one:?} and {key:?} were sent");
    env.until("17 runs", |counts| counts.ended >= 17).await?;
    poison.stop().await?;
    until_dead(env, &letters, 12).await?;

    // Mended: the second time they pass, in order within each key.
    let mended = lanes.run(env, &client, LaneQueue::options(), |_, _| async { Outcome::Done }).await?;
    let before = env.history().entries().len();
    let all = letters.redrive_all().await?;
    ensure!(all.redriven == 12, "12 were meant, {all:?} were sent");
    env.until("29 runs", |counts| counts.ended >= 29).await?;
    mended.stop().await?;
    let history = env.history();
    for key in ["k0", "k2"] {
        let runs = history.entries()[before..].iter().filter_map(|entry| match &entry.record {
            Record::Started { id, .. } if id.starts_with(key) => Some(id.clone()),
            _ => None,
        });
        let (runs, expected) = (runs.collect::<Vec<_>>(), (0..4).map(|n| format!("{key}-{n}")).collect::<Vec<_>>());
        ensure_same(&runs, &expected)?;
    }
    ensure!(letters.list(10).await?.is_empty(), "letters are left");

    // Without end it does not go.
    let poison = lanes.run(env, &client, LaneQueue::options(), |_, _| async { Outcome::dead("poison") }).await?;
    client.publish(lanes.queue.messages("loop", [0])).await?;
    let mut sent = 0;
    for round in 0..4 {
        env.until("another run", |counts| counts.ended >= 30 + round.min(2)).await?;
        until_dead(env, &letters, 1).await?;
        sent += letters.redrive_all().await?.redriven;
    }
    poison.stop().await?;
    ensure!(sent == 2, "a letter that may be sent twice was sent {sent} times");
    Ok(())
}

/// Lists the dead letters until there are this many.
pub(super) async fn until_dead(env: &Env, letters: &DeadLetters, count: usize) -> Result<Vec<DeadLetter>, Stop> {
    let looking = async {
        loop {
            let dead = letters.list(10 * count).await?;
            if dead.len() == count {
                return Ok::<_, Stop>(dead);
            }
        }
    };
    env.within(&format!("{count} dead letters"), looking).await?
}

async fn failed_publish(env: &Env) -> CaseResult {
    let (lanes, client) = (LaneQueue::new(env), env.connect().await?);
    // The queue alone: there is no topic for its dead letters.
    client.declare(&lanes.queue.topology()).await?;
    let handle = |delivery: partitura_broker::Delivery, _| async move {
        if delivery.message.key.as_deref() == Some(b"bad") { Outcome::dead("poison") } else { Outcome::Done }
    };
    let options =
        LaneOptions::default().retry(Retry::fixed(Duration::from_millis(20))).drain_within(Duration::from_millis(200));
    let running = lanes.run(env, &client, options, handle).await?;
    client.publish(lanes.queue.messages("bad", 0..3)).await?;
    client.publish(lanes.queue.spread(4, 5)).await?;
    let tried = |record: &Record| matches!(record, Record::Published { id, outcome: Err(_), .. } if id == "bad-0");
    env.reaches("failed burials, and the other keys", |history| {
        let failed = history.entries().iter().filter(|entry| tried(&entry.record)).count();
        let done = |record: &Record| matches!(record, Record::Ended { outcome, .. } if outcome == "done");
        failed >= 2 && history.entries().iter().filter(|entry| done(&entry.record)).count() >= 20
    })
    .await?;
    running.stop().await?;
    client.publish(lanes.queue.messages("bad", [3])).await?;
    let left = client.join(lanes.queue.options()).await?.drain(4).await?;
    ensure!(ids(&left) == ["bad-0", "bad-1", "bad-2", "bad-3"], "bad-0 to bad-3 were expected, {:?} came", ids(&left));
    Ok(())
}

async fn trace(env: &Env) -> CaseResult {
    let (lanes, client) = (LaneQueue::new(env), env.connect().await?);
    lanes.declare(&client).await?;
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = seen.clone();
    let is_traced = |message: &Message| TRACE.iter().all(|(name, value)| message.headers.get_str(name) == Some(value));
    let handle = move |delivery: partitura_broker::Delivery, attempt: u32| {
        counted.fetch_add(usize::from(is_traced(&delivery.message)), Ordering::SeqCst);
        async move { if attempt < 3 { Outcome::retry("not yet") } else { Outcome::dead("never") } }
    };
    let options = LaneQueue::options().retry(Retry::fixed(Duration::from_millis(20)));
    let running = lanes.run(env, &client, options, handle).await?;
    let traced =
        |number| TRACE.iter().fold(lanes.queue.message("k", number), |m, (name, value)| m.header(name, *value));
    let delayed = traced(1).not_before(now() + Duration::from_millis(200));
    client.publish(vec![traced(0), delayed]).await?;
    let letters = lanes.dead_letters(env, &client)?;
    let dead = until_dead(env, &letters, 2).await?;
    running.stop().await?;
    ensure!(seen.load(Ordering::SeqCst) == 6, "{} of 6 runs had the headers", seen.load(Ordering::SeqCst));
    ensure!(dead.iter().all(|dead| is_traced(&dead.message)), "a dead letter has lost them: {dead:?}");
    Ok(check::never_early(&env.history())?)
}

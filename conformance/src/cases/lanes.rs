//! The promises of the lanes, on the broker under test.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use partitura_lanes::{Outcome, Retry};
use tokio::sync::{Barrier, Notify};

use crate::case::case;
use crate::client::credit;
use crate::lanes::LaneQueue;
use crate::stop::ensure;
use crate::{Case, CaseResult, Env, History, Record, check};

pub(super) const CASES: &[Case] = &[
    case!(
        "order.key_exclusive",
        One,
        [],
        "at most one handler runs for a key, and different keys do run in parallel",
        key_exclusive
    ),
    case!("order.retry_block", One, [], "while a message is retried its key waits and the others flow", retry_block),
    case!("order.parked", One, [], "past the holding bound a key is parked, and still resumes in order", parked),
    case!(
        "hold.slow_handler",
        One,
        [],
        "a slow handler, with messages behind it that wait for longer than the broker lets them be held, runs each once and in order",
        slow_handler
    ),
    case!(
        "order.dlq_continue",
        One,
        [],
        "after a message became a dead letter, its key goes on with the next",
        dlq_continue
    ),
    case!(
        "poison.other_keys_flow",
        One,
        [],
        "a key that fails, with more behind it than the credit allows, does not keep back the others",
        other_keys_flow
    ),
    case!(
        "retry.backoff_shape",
        One,
        [],
        "the pauses are no shorter than the policy's, and the runs are counted exactly",
        backoff_shape
    ),
    case!(
        "shutdown.drain",
        One,
        [],
        "on shutdown running handlers finish; messages that were only received are neither run, counted nor given up",
        drain
    ),
];

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn is(delivery: &partitura_broker::Delivery, id: &str) -> bool {
    delivery.message.id.as_str() == id
}

fn ended(history: &History, outcome: &str) -> usize {
    let is = |record: &Record| matches!(record, Record::Ended { outcome: found, .. } if found == outcome);
    history.entries().iter().filter(|entry| is(&entry.record)).count()
}

/// Checks the messages of the queue. The markers of parking may be on their way when the lanes stop.
fn nothing_lost(lanes: &LaneQueue, history: &History) -> CaseResult {
    let is_its_own =
        |record: &Record| matches!(record, Record::Publishing { sent, .. } if sent.topic != lanes.queue.topic.as_str());
    let entries = history.entries().iter().filter(|entry| !is_its_own(&entry.record)).cloned().collect();
    Ok(check::nothing_lost(&History::new(entries))?)
}

async fn key_exclusive(env: &Env) -> CaseResult {
    let (lanes, client) = (LaneQueue::new(env), env.connect().await?);
    lanes.declare(&client).await?;
    // Goes on only when two handlers are there at once.
    let both = Arc::new(Barrier::new(2));
    let handle = move |delivery: partitura_broker::Delivery, _| {
        let both = both.clone();
        async move {
            if is(&delivery, "k0-0") || is(&delivery, "k1-0") {
                both.wait().await;
            }
            tokio::task::yield_now().await;
            Outcome::Done
        }
    };
    let running = lanes.run(env, &client, LaneQueue::options(), handle).await?;
    client.publish(lanes.queue.spread(12, 40)).await?;
    env.until("480 messages to be handled", |counts| counts.ended >= 480).await?;
    running.stop().await?;
    check::one_at_a_time(&env.history())?;
    check::runs_in_order(&env.history())?;
    nothing_lost(&lanes, &env.history())
}

async fn retry_block(env: &Env) -> CaseResult {
    const OTHERS: usize = 60;
    let (lanes, client) = (LaneQueue::new(env), env.connect().await?);
    lanes.declare(&client).await?;
    let others = Arc::new(AtomicUsize::new(0));
    // k-5 fails until all messages of the other keys were handled: so they have to flow.
    let handle = move |delivery: partitura_broker::Delivery, attempt: u32| {
        let others = others.clone();
        async move {
            if is(&delivery, "k-5") && (attempt <= 3 || others.load(Ordering::SeqCst) < OTHERS) {
                return Outcome::retry("not yet");
            }
            if delivery.message.key.as_deref() != Some(b"k") {
                others.fetch_add(1, Ordering::SeqCst);
            }
            Outcome::Done
        }
    };
    let options = LaneQueue::options().retry(Retry::fixed(ms(20)));
    let running = lanes.run(env, &client, options, handle).await?;
    client.publish(lanes.queue.messages("k", 0..10)).await?;
    client.publish(lanes.queue.spread(6, OTHERS / 6)).await?;
    client.publish(lanes.queue.messages("k", 10..12)).await?;
    env.reaches("all messages to be done", |history| ended(history, "done") >= OTHERS + 12).await?;
    running.stop().await?;
    check::runs_in_order(&env.history())?;
    check::attempts_count(&env.history())?;
    nothing_lost(&lanes, &env.history())
}

async fn parked(env: &Env) -> CaseResult {
    let (lanes, client) = (LaneQueue::new(env), env.connect().await?);
    lanes.declare(&client).await?;
    let mended = Arc::new(AtomicBool::new(false));
    let failing = mended.clone();
    let handle = move |delivery: partitura_broker::Delivery, _| {
        let fails = is(&delivery, "k-2") && !failing.load(Ordering::SeqCst);
        async move { if fails { Outcome::retry("not yet") } else { Outcome::Done } }
    };
    let options = LaneQueue::options().hold(ms(100)).retry(Retry::fixed(ms(20)));
    let running = lanes.run(env, &client, options, handle).await?;
    client.publish(lanes.queue.messages("k", 0..20)).await?;
    let is_parked = |history: &History| {
        let parked = |record: &Record| matches!(record, Record::Publishing { sent, .. } if sent.topic.ends_with(".parking") && sent.id == "k-2");
        history.entries().iter().any(|entry| parked(&entry.record))
    };
    env.reaches("k-2 to be parked", is_parked).await?;
    // Messages that come meanwhile queue up behind the parked ones.
    client.publish(lanes.queue.messages("k", 20..30)).await?;
    client.publish(lanes.queue.spread(5, 4)).await?;
    env.reaches("the other keys", |history| ended(history, "done") >= 2 + 20).await?;
    mended.store(true, Ordering::SeqCst);
    env.reaches("all messages to be done", |history| ended(history, "done") >= 30 + 20).await?;
    running.stop().await?;
    check::runs_in_order(&env.history())?;
    check::attempts_count(&env.history())?;
    Ok(check::one_at_a_time(&env.history())?)
}

async fn slow_handler(env: &Env) -> CaseResult {
    const BEHIND: usize = 120;
    /// Where the broker has no bound, the lanes get one, so that messages are parked there, too.
    const BOUND: Duration = Duration::from_secs(2);
    let (lanes, client) = (LaneQueue::new(env), env.connect().await?);
    lanes.declare(&client).await?;
    let (bound, options) = match env.capabilities().hold {
        Some(bound) => (bound, LaneQueue::options()),
        None => (BOUND, LaneQueue::options().hold(BOUND)),
    };
    ensure!(
        bound <= 2 * env.time_limit,
        "{bound:?} is too long to be waited for; let the harness connect with a shorter bound, or set a longer time limit"
    );
    let each = bound.mul_f64(1.25) / u32::try_from(BEHIND).unwrap_or(u32::MAX);
    let handle = move |delivery: partitura_broker::Delivery, _| async move {
        if delivery.message.key.as_deref() == Some(b"slow") {
            tokio::time::sleep(each).await;
        }
        Outcome::Done
    };
    client.publish(lanes.queue.messages("slow", 0..BEHIND)).await?;
    client.publish(lanes.queue.spread(5, 4)).await?;
    let running = lanes.run(env, &client, options, handle).await?;
    for done in 1..=BEHIND + 20 {
        env.until(&format!("{done} messages to be handled"), |counts| counts.ended >= done).await?;
    }
    running.stop().await?;
    let started = env.recorder.counts().borrow().started;
    ensure!(started == BEHIND + 20, "{started} runs of {} messages", BEHIND + 20);
    check::runs_in_order(&env.history())?;
    check::attempts_count(&env.history())?;
    nothing_lost(&lanes, &env.history())
}

async fn dlq_continue(env: &Env) -> CaseResult {
    let (lanes, client) = (LaneQueue::new(env), env.connect().await?);
    lanes.declare(&client).await?;
    let handle = |delivery: partitura_broker::Delivery, _| async move {
        if is(&delivery, "k-5") { Outcome::dead("poison") } else { Outcome::Done }
    };
    let running = lanes.run(env, &client, LaneQueue::options(), handle).await?;
    client.publish(lanes.queue.messages("k", 0..10)).await?;
    env.reaches("the others to be done", |history| ended(history, "done") >= 9).await?;
    running.stop().await?;
    let dead = lanes.dead_letters(env, &client)?.list(10).await?;
    ensure!(dead.len() == 1 && dead[0].id().as_str() == "k-5", "k-5 should be the dead letter: {dead:?}");
    check::runs_in_order(&env.history())?;
    ensure!(ended(&env.history(), "dead") == 1, "k-5 was given up more than once");
    Ok(check::each_once_of(&env.history(), lanes.queue.topic.as_str())?)
}

async fn other_keys_flow(env: &Env) -> CaseResult {
    const OTHERS: usize = 3_000;
    let (lanes, client) = (LaneQueue::new(env), env.connect().await?);
    lanes.declare(&client).await?;
    let handle = |delivery: partitura_broker::Delivery, _| async move {
        if delivery.message.key.as_deref() == Some(b"poison") { Outcome::retry("always") } else { Outcome::Done }
    };
    let options = LaneQueue::options().credit(credit(200)).behind(50).retry(Retry::fixed(ms(50))).drain_within(ms(500));
    let running = lanes.run(env, &client, options, handle).await?;
    for chunk in lanes.queue.messages("poison", 0..500).chunks(100) {
        client.publish(chunk.to_vec()).await?;
    }
    for chunk in lanes.queue.spread(100, OTHERS / 100).chunks(500) {
        client.publish(chunk.to_vec()).await?;
    }
    env.reaches("all others to be done", |history| ended(history, "done") >= OTHERS).await?;
    running.stop().await?;
    check::runs_in_order(&env.history())?;
    Ok(check::one_at_a_time(&env.history())?)
}

async fn backoff_shape(env: &Env) -> CaseResult {
    const RUNS: u32 = 5;
    let (lanes, client) = (LaneQueue::new(env), env.connect().await?);
    lanes.declare(&client).await?;
    let retry = Retry::exponential().initial(ms(20)).jitter(0.0).max_attempts(RUNS);
    let options = LaneQueue::options().retry(retry);
    let running = lanes.run(env, &client, options, |_, _| async { Outcome::retry("always") }).await?;
    client.publish(lanes.queue.spread(4, 2)).await?;
    env.until("all runs", |counts| counts.ended >= 8 * RUNS as usize).await?;
    let letters = lanes.dead_letters(env, &client)?;
    let dead = super::dead::until_dead(env, &letters, 8).await?;
    running.stop().await?;
    ensure!(dead.iter().all(|dead| dead.attempts == RUNS), "a dead letter does not say {RUNS} attempts: {dead:?}");
    let history = env.history();
    check::attempts_count(&history)?;
    for message in lanes.queue.spread(4, 2) {
        let mut last_end = None;
        for entry in history.entries() {
            match &entry.record {
                Record::Started { id, attempt, .. } if *id == message.id.as_str() => {
                    let pause = last_end.map(|end: u64| Duration::from_micros(entry.at - end));
                    let least =
                        retry.delay(attempt.saturating_sub(1), 0.0).filter(|_| *attempt > 1).unwrap_or_default();
                    // The lanes' clock counts in milliseconds.
                    let slack = ms(1);
                    ensure!(pause.is_none_or(|pause| pause + slack >= least), "{id}: {pause:?} before run {attempt}");
                }
                Record::Ended { id, .. } if *id == message.id.as_str() => last_end = Some(entry.at),
                _ => {}
            }
        }
    }
    Ok(())
}

async fn drain(env: &Env) -> CaseResult {
    let (lanes, client) = (LaneQueue::new(env), env.connect().await?);
    lanes.declare(&client).await?;
    let (go, begun) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let gate = (go.clone(), begun.clone());
    let handle = move |_, _| {
        let (go, begun) = gate.clone();
        async move {
            begun.notify_one();
            go.notified().await;
            Outcome::Done
        }
    };
    client.publish(lanes.queue.messages("k", 0..20)).await?;
    let running = lanes.run(env, &client, LaneQueue::options(), handle).await?;
    env.within("the first handler", begun.notified()).await?;
    let stopping = running.stopping();
    // Nothing says that they have heard of it.
    tokio::time::sleep(ms(500)).await;
    go.notify_one();
    stopping.await?;
    ensure!(env.recorder.counts().borrow().ended == 1, "another handler than the running one has ended");
    ensure!(
        lanes.dead_letters(env, &client)?.list(10).await?.is_empty(),
        "a message that was never run is a dead letter"
    );

    let rest = lanes.run(env, &client, LaneQueue::options(), |_, _| async { Outcome::Done }).await?;
    env.until("the rest", |counts| counts.ended >= 20).await?;
    rest.stop().await?;
    check::runs_in_order(&env.history())?;
    // Each message had one run, and it was its first.
    check::attempts_count(&env.history())?;
    ensure!(env.recorder.counts().borrow().started == 20, "a message had two runs");
    Ok(())
}

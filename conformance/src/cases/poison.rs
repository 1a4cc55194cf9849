//! Lanes on the broker under test, with a message that ends the process that runs it.

use std::time::Duration;

use partitura_broker::Delivery;
use partitura_lanes::Outcome;

use super::dead::until_dead;
use crate::case::case;
use crate::client::Client;
use crate::lanes::LaneQueue;
use crate::stop::ensure;
use crate::{Case, CaseResult, Env, History, Record};

pub(super) const CASES: &[Case] = &[case!(
    "poison.kills_process",
    Two,
    [Processes, Durability],
    "a message that ends its process becomes a dead letter after five times; no other does, and all others are done",
    kills_process,
    aborts
)];

const POISON: &str = "bad-2";
/// The number of crashes with which the lanes give a message up by default.
const LIMIT: u32 = 5;
/// The same where the broker flags the first delivery as a redelivery, which counts as a crash.
const LEAST: u32 = LIMIT - 1;
const KEYS: usize = 6;
const EACH: usize = 10;
const BAD: usize = 5;

async fn kills_process(env: &Env) -> CaseResult {
    let lanes = LaneQueue::new(env);
    {
        let client = env.connect().await?;
        lanes.declare(&client).await?;
        client.publish(lanes.queue.spread(KEYS, EACH)).await?;
        client.publish(lanes.queue.messages("bad", 0..BAD)).await?;
    }
    for crashes in 0.. {
        let mut part = env.start("aborts").await?;
        let done = |history: &History| ended(history) == KEYS * EACH + BAD - 1;
        tokio::select! {
            ended = part.ended() => ended?,
            done = env.reaches("all others to be done", done) => {
                done?;
                part.kill().await?;
                break;
            }
        }
        ensure!(crashes < LIMIT as usize, "{} processes ended with it", crashes + 1);
    }
    let history = env.history();
    let begun = |id: &str| {
        let of = |record: &Record| matches!(record, Record::Started { id: started, .. } if started == id);
        history.entries().iter().filter(|entry| of(&entry.record)).count()
    };
    ensure!((LEAST as usize..=LIMIT as usize).contains(&begun(POISON)), "it began {} times", begun(POISON));
    let client: Client = env.connect().await?;
    let dead = until_dead(env, &lanes.dead_letters(env, &client)?, 1).await?.remove(0);
    ensure!(dead.id().as_str() == POISON, "{} is a dead letter", dead.id());
    ensure!(dead.attempts == LIMIT, "the letter knows of {} attempts", dead.attempts);
    ensure!(dead.reason.contains("process was lost"), "the reason does not say so: {:?}", dead.reason);
    ensure!(dead.message.payload == POISON, "the message changed: {:?}", dead.message);
    Ok(())
}

/// The number of messages that are done.
fn ended(history: &History) -> usize {
    let done = history.entries().iter().filter_map(|entry| match &entry.record {
        Record::Ended { id, outcome, .. } if outcome == "done" => Some(id),
        _ => None,
    });
    done.collect::<std::collections::HashSet<_>>().len()
}

/// Takes a moment for each message, so that others are with the handler whenever the process ends.
async fn aborts(env: &Env) -> CaseResult {
    let (lanes, client) = (LaneQueue::new(env), env.connect().await?);
    lanes.declare(&client).await?;
    let handle = |delivery: Delivery, _| async move {
        if delivery.message.id.as_str() == POISON {
            std::process::abort();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        Outcome::Done
    };
    let _running = lanes.run(env, &client, LaneQueue::options(), handle).await?;
    env.hold().await
}

//! A message that ends its process, in lanes on the broker under test.

use std::time::Duration;

use partitura_broker::Delivery;
use partitura_lanes::Outcome;

use super::dead::until_dead;
use crate::case::{case, ensure};
use crate::client::Client;
use crate::floor::Floor;
use crate::{Case, CaseResult, Env, History, Record};

pub(super) const CASES: &[Case] = &[case!(
    "poison.kills_process",
    Two,
    [Processes, Durability],
    "a message with which its process ends five times becomes a dead letter; no other does, and all others are done",
    kills_process,
    aborts
)];

const POISON: &str = "bad-2";
/// With how many crashes the lanes give a message up by default.
const LIMIT: usize = 5;
/// In these it may not be known yet which of those that ran at a time was to blame.
const MORE: usize = 3;
const KEYS: usize = 6;
const EACH: usize = 10;
const BAD: usize = 5;

async fn kills_process(env: &Env) -> CaseResult {
    let floor = Floor::new(env);
    {
        let client = env.connect().await?;
        floor.declare(&client).await?;
        client.publish(floor.queue.spread(KEYS, EACH)).await?;
        client.publish(floor.queue.messages("bad", 0..BAD)).await?;
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
        ensure!(crashes < LIMIT + MORE, "{} processes ended with it", crashes + 1);
    }
    let history = env.history();
    let begun = |id: &str| {
        let of = |record: &Record| matches!(record, Record::Started { id: started, .. } if started == id);
        history.entries().iter().filter(|entry| of(&entry.record)).count()
    };
    ensure!((LIMIT..=LIMIT + MORE).contains(&begun(POISON)), "it began {} times", begun(POISON));
    let client: Client = env.connect().await?;
    let dead = until_dead(env, &floor.dead_letters(env, &client)?, 1).await?.remove(0);
    ensure!(dead.id().as_str() == POISON, "{} is a dead letter", dead.id());
    ensure!(dead.attempts as usize >= LIMIT, "the letter knows of {} attempts", dead.attempts);
    ensure!(dead.reason.contains("process ended"), "the reason does not say so: {:?}", dead.reason);
    ensure!(dead.message.payload == POISON, "the message changed: {:?}", dead.message);
    Ok(())
}

/// How many messages are done.
fn ended(history: &History) -> usize {
    let done = history.entries().iter().filter_map(|entry| match &entry.record {
        Record::Ended { id, outcome, .. } if outcome == "done" => Some(id),
        _ => None,
    });
    done.collect::<std::collections::HashSet<_>>().len()
}

/// Takes a moment for each message, so that others are with the handler whenever the process ends.
async fn aborts(env: &Env) -> CaseResult {
    let (floor, client) = (Floor::new(env), env.connect().await?);
    floor.declare(&client).await?;
    let handle = |delivery: Delivery, _| async move {
        if delivery.message.id.as_str() == POISON {
            std::process::abort();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        Outcome::Done
    };
    let _running = floor.run(env, &client, Floor::options(), handle).await?;
    env.hold().await
}

//! The resources that a process keeps and should have given back: tasks, threads, files, memory.

use std::num::NonZeroUsize;
use std::time::Duration;

use futures::future::try_join_all;
use partitura_broker::{Credit, Message};

use crate::case::case;
use crate::client::{A_MOMENT, Queue, by_key};
use crate::stop::ensure;
use crate::{Case, CaseResult, Env, Record, Stop};

pub(super) const CASES: &[Case] = &[
    case!(
        "inbox.many",
        Two,
        [Processes, Durability, Proc],
        "a thousand inboxes come and go, and leave no task, thread or open file behind",
        many_inboxes,
        opens_inboxes
    ),
    case!(
        "scale.joins",
        Four,
        [Processes, Durability, Proc],
        "a thousand consumers join and leave, and leave no task, thread or open file behind",
        many_joins,
        joins
    ),
    case!(
        "flow.memory",
        Four,
        [Processes, Durability, Proc],
        "a consumer with a slow handler before a large backlog of large messages keeps no more memory than its credit asks for",
        memory,
        fills,
        handles_slowly
    ),
];

/// The message of a process that has given everything back, or keeps within its bounds.
const WELL: &str = "all is as it should be";
/// Inboxes, or consumers, that are open at once.
const AT_ONCE: usize = 20;
/// Of each kind, what may come and go by itself.
const SLACK: usize = 12;

const MIB: usize = 1 << 20;
/// The backlog: messages of a mebibyte.
const BACKLOG: usize = 320;
const CREDIT: usize = 16 * MIB;
/// Twice the credit, and what a client needs for itself.
const BOUND: usize = 2 * CREDIT + 64 * MIB;
/// The bytes that a broker in the same process needs for itself.
const OF_A_BROKER: usize = 64 * MIB;

async fn many_inboxes(env: &Env) -> CaseResult {
    ends_well(env, "opens_inboxes").await
}

async fn many_joins(env: &Env) -> CaseResult {
    ends_well(env, "joins").await
}

/// Runs the part in a process of its own, since others would change what is counted.
async fn ends_well(env: &Env, part: &str) -> CaseResult {
    let mut part = env.start(part).await?;
    let before = env.history().entries().len();
    let well = |entry: &crate::Entry| matches!(&entry.record, Record::Note(text) if text == WELL);
    tokio::select! {
        ended = part.ended() => {
            ended?;
            let found = last_note(&env.history().entries()[before..]);
            let found = found.unwrap_or_else(|| "its error output says what".to_owned());
            Err(Stop::new(format!("the process found more than it should: {found}")))
        }
        // As long as the case may take.
        () = async {
            while !env.history().entries()[before..].iter().any(well) {
                tokio::time::sleep(A_MOMENT).await;
            }
        } => part.kill().await,
    }
}

fn last_note(entries: &[crate::Entry]) -> Option<String> {
    entries.iter().rev().find_map(|entry| match &entry.record {
        Record::Note(text) => Some(text.clone()),
        _ => None,
    })
}

async fn opens_inboxes(env: &Env) -> CaseResult {
    let broker = env.unrecorded().await?;
    let wave = || async {
        let inboxes = try_join_all((0..AT_ONCE).map(|_| broker.inbox())).await?;
        ensure!(inboxes.len() == AT_ONCE, "{} inboxes", inboxes.len());
        Ok(())
    };
    wave().await?;
    let before = settled().await;
    for _ in 1..env.load(1_000, 200) / AT_ONCE {
        wave().await?;
    }
    gives_back(env, before).await?;
    env.note(WELL);
    env.hold().await
}

async fn joins(env: &Env) -> CaseResult {
    let (broker, waves) = (env.unrecorded().await?, env.load(1_000, 200) / AT_ONCE);
    let queues: Vec<_> = (0..AT_ONCE).map(|number| env.queue(&format!("q{number}"), by_key(1))).collect();
    try_join_all(queues.iter().map(|queue| async { broker.declare(&queue.topology()).await })).await?;
    let wave = || async {
        let one = |queue: &Queue| {
            let (options, broker) = (queue.options(), broker.clone());
            async move { broker.consumer(options).await?.close().await }
        };
        env.within("consumers to join and leave", try_join_all(queues.iter().map(one))).await??;
        CaseResult::Ok(())
    };
    wave().await?;
    let before = settled().await;
    for _ in 1..waves {
        wave().await?;
    }
    gives_back(env, before).await?;
    env.note(WELL);
    env.hold().await
}

/// The open resources of a process.
#[derive(Debug, Clone, Copy)]
struct Open {
    tasks: usize,
    threads: usize,
    files: usize,
}

impl Open {
    fn now() -> Self {
        let count = |directory: &str| std::fs::read_dir(directory).map_or(0, Iterator::count);
        let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        Self { tasks, threads: count("/proc/self/task"), files: count("/proc/self/fd") }
    }

    fn is_about(self, before: Self) -> bool {
        let about = |now: usize, before: usize| now <= before + SLACK;
        about(self.tasks, before.tasks) && about(self.threads, before.threads) && about(self.files, before.files)
    }
}

/// The resources that are open when the first ones are gone, as far as one can wait for it.
async fn settled() -> Open {
    tokio::time::sleep(Duration::from_secs(2)).await;
    Open::now()
}

async fn gives_back(env: &Env, before: Open) -> CaseResult {
    let giving = async {
        while !Open::now().is_about(before) {
            tokio::time::sleep(A_MOMENT).await;
        }
    };
    let given = env.within("what was open to be given back", giving).await;
    given.map_err(|stop| {
        let found = format!("{stop}: {:?} after {before:?}", Open::now());
        env.note(found.clone());
        Stop::new(found)
    })
}

async fn memory(env: &Env) -> CaseResult {
    ends_well(env, "fills").await?;
    ends_well(env, "handles_slowly").await
}

fn backlog(env: &Env) -> Queue {
    env.queue("large", by_key(4))
}

/// The size of a large message, and how many there are.
fn sizes(env: &Env) -> (usize, usize) {
    let size = env.capabilities().limits.payload.min(MIB);
    (size, BACKLOG * MIB / size)
}

/// Publishes the backlog, in a process of its own, so that its memory does not count.
async fn fills(env: &Env) -> CaseResult {
    let (queue, broker, (size, count)) = (backlog(env), env.unrecorded().await?, sizes(env));
    broker.declare(&queue.topology()).await?;
    let producer = broker.producer(Default::default()).await?;
    for number in 0..count {
        let name = format!("k{}", number % 64);
        let message = Message { payload: vec![number as u8; size].into(), ..queue.message(&name, number) };
        producer.publish(vec![message]).await.remove(0)?;
    }
    env.note(WELL);
    env.hold().await
}

/// Holds what its credit allows for a while, and then settles one after another.
async fn handles_slowly(env: &Env) -> CaseResult {
    let (queue, (_, messages)) = (backlog(env), sizes(env));
    let client = crate::client::Client::new(env.unrecorded().await?, env.time_limit);
    let before = resident();
    let bytes = NonZeroUsize::new(CREDIT).unwrap_or(NonZeroUsize::MIN);
    let mut member = client.join(queue.options().credit(Credit { bytes, ..Credit::default() })).await?;
    let (mut most, mut done) = (0, 0);
    let first = member.deliveries().await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut held = first;
    while done < messages {
        most = most.max(resident().saturating_sub(before));
        if held.is_empty() {
            held = member.deliveries().await?;
        }
        let one = held.split_off(held.len() - 1);
        member.settle(&one);
        done += 1;
    }
    let own = if env.harness.lives_in_its_client() { OF_A_BROKER } else { 0 };
    let (most, bound) = (most / MIB, (BOUND + own) / MIB);
    env.note(format!("{most} MiB more memory than before, of {bound}"));
    ensure!(most <= bound, "{most} MiB more memory than before, for a credit of {} MiB", CREDIT / MIB);
    env.note(WELL);
    env.hold().await
}

/// The resident memory of this process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<usize>().ok()).unwrap_or(0) << 10
}

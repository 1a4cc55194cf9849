//! The properties that must hold once a run came to its end, whatever crashed before. Looks at the files through the
//! contract alone.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use partitura::history::{Definition, Event as Happened, Execution};
use partitura::{Summary, Workflow};
use partitura_broker::{
    Broker, Clock, Consumer, ConsumerOptions, Event, Message, Ordering, ProducerOptions, ScanRange, SubscriptionName,
    SystemClock, Timestamp, TopicName, partition_of,
};
use partitura_embedded::{Embedded, Options};
use partitura_lanes::SubscriptionTopics;
use serde::Deserialize;

use crate::diary::{Diary, Entry, Ledger};
use crate::program::Piece;
use crate::stage::{Mode, PARTITIONS, Plan, audited};

/// Nothing comes as late.
const TIME_LIMIT: Duration = Duration::from_secs(20);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

type Finding = Result<(), String>;

/// Compares the effects with their records.
pub(crate) fn what_happened(plan: &Plan) -> Finding {
    outcomes(plan)?;
    ledger(plan)?;
    on_files(plan, async |messages, state| {
        let runs = histories(plan, state).await?;
        summaries(plan, state, &runs).await?;
        events(messages, &runs, plan.mode).await
    })
}

/// Commands and tasks that nobody has received, and entries of the outbox. Confirmed entries leave it soon.
pub(crate) fn left_over(plan: &Plan) -> Result<Vec<String>, String> {
    on_files(plan, async |messages, state| {
        let mut left: Vec<String> =
            left_in_queues(messages).await?.iter().map(|message| format!("{message:?}")).collect();
        let entries = scan(state, "outbox").await?;
        left.extend(entries.into_iter().map(|(key, _)| format!("outbox entry {}", key.escape_ascii())));
        Ok(left)
    })
}

/// Every instance ended, as expected, and nobody was ever told anything else.
fn outcomes(plan: &Plan) -> Finding {
    let diary = Diary::read(&plan.diary());
    for number in plan.numbers() {
        let told: BTreeSet<&str> = diary
            .iter()
            .filter_map(|entry| match entry {
                Entry::Ended(id, outcome) if id == number.id => Some(outcome.as_str()),
                _ => None,
            })
            .collect();
        expect(told == BTreeSet::from([number.outcome]), || {
            format!("{} ended with {told:?}, expected {:?}", number.id, number.outcome)
        })?;
    }
    Ok(())
}

/// Each effect is there once.
fn ledger(plan: &Plan) -> Finding {
    let known = |entry: &String| entry.split('#').next().unwrap_or_default().to_owned();
    let mut entered: Vec<String> = Ledger::read(&plan.ledger()).iter().map(known).collect();
    let mut expected: Vec<&str> = plan.numbers().flat_map(|number| number.notes).copied().collect();
    entered.sort_unstable();
    expected.sort_unstable();
    expect(entered == expected, || format!("the ledger has {entered:?}, expected {expected:?}"))
}

/// With the messages and the state of a run that is over, in a time when every timer has fallen due.
fn on_files<T>(plan: &Plan, look: impl AsyncFnOnce(&Embedded, &Embedded) -> Result<T, String>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(text)?;
    runtime.block_on(async {
        let open = |path| Embedded::open(path, Options::default().clock(Arc::new(Tomorrow))).map_err(text);
        let messages = open(plan.messages())?;
        let state = if plan.mode == Mode::OneStep { messages.clone() } else { open(plan.state())? };
        let found = look(&messages, &state).await?;
        messages.close().await.map_err(text)?;
        state.close().await.map_err(text)?;
        Ok(found)
    })
}

/// The turns of a run.
struct Run {
    id: String,
    turns: Vec<Vec<Happened>>,
}

/// A stored value.
#[derive(Deserialize)]
struct Stored<T> {
    body: T,
}

/// Each instance has one run, its turns are numbered without a gap, and the code of today does what it says, to its
/// end.
async fn histories(plan: &Plan, state: &Embedded) -> Result<HashMap<String, Run>, String> {
    let mut runs: HashMap<String, Run> = HashMap::new();
    for (key, value) in scan(state, "history").await? {
        let parts: Vec<&[u8]> = key.splitn(4, |byte| *byte == 0).collect();
        let [_, id, run, turn] = parts[..] else { return Err(format!("a key {}", key.escape_ascii())) };
        let number = u32::from_be_bytes(turn.try_into().map_err(text)?);
        let (id, run) = (utf8(id)?, utf8(run)?);
        let found = runs.entry(run).or_insert_with(|| Run { id, turns: Vec::new() });
        expect(found.turns.len() == number as usize, || format!("{}: turn {number} out of order", found.id))?;
        found.turns.push(parse::<Stored<_>>(&value)?.body);
    }
    let expected: usize = plan.numbers().map(|number| 1 + number.children).sum();
    let ids: BTreeSet<&str> = runs.values().map(|run| run.id.as_str()).collect();
    expect(runs.len() == expected && ids.len() == expected, || {
        format!("{} runs of {} instances, expected {expected}: {ids:?}", runs.len(), ids.len())
    })?;
    for Run { id, turns } in runs.values() {
        let events: Vec<Happened> = turns.iter().flatten().cloned().collect();
        let ends = events.iter().filter(|event| event.kind.is_end()).count();
        expect(ends == 1, || format!("{id} ended {ends} times: {events:?}"))?;
        let (execution, turn) = Execution::replay(&Definition::for_workflow::<Piece>(), events).map_err(text)?;
        expect(execution.is_closed() && turn.events.is_empty(), || format!("the replay of {id} goes on: {turn:?}"))?;
    }
    Ok(runs)
}

async fn summaries(plan: &Plan, state: &Embedded, runs: &HashMap<String, Run>) -> Finding {
    for (_, value) in scan(state, "instances").await? {
        let summary: Summary = parse::<Stored<_>>(&value)?.body;
        let of = runs.get(&summary.run).map(|run| run.id.as_str());
        expect(of == Some(&summary.id) && summary.status.is_closed(), || format!("{summary:?} of a run of {of:?}"))?;
        let number = plan.numbers().find(|number| number.id == summary.id);
        let status = number.map(|number| number.outcome.split(':').next().unwrap_or_default());
        let status = status.map(|status| if status == "ok" { "completed" } else { status });
        expect(status.is_none_or(|status| status == summary.status.name()), || format!("{summary:?}"))?;
    }
    let stopped = scan(state, "stopped").await?;
    expect(stopped.is_empty(), || format!("{} instances are stopped", stopped.len()))
}

/// The published events match the histories: nothing is missing, nothing is more, the order is that of the history, and
/// what comes a second time, as it may without transactions, is the same but for the mark that says so.
async fn events(messages: &Embedded, runs: &HashMap<String, Run>, mode: Mode) -> Finding {
    let options = audited().map_err(text)?;
    let mut first: BTreeMap<String, Message> = BTreeMap::new();
    let mut order: HashMap<String, Vec<String>> = HashMap::new();
    for mut message in drain(messages, options, PARTITIONS).await? {
        message.headers.remove("partitura-resent");
        let id = message.id.to_string();
        let run = id.split('.').next().unwrap_or_default().to_owned();
        match first.get(&id) {
            None => order.entry(run).or_default().push(id.clone()),
            Some(earlier) => {
                expect(mode == Mode::TwoSteps, || format!("the event {id} was published twice"))?;
                expect(*earlier == message, || format!("the event {id} was published as {earlier:?} and {message:?}"))?;
            }
        }
        first.entry(id).or_insert(message);
    }
    for (run, Run { id, turns }) in runs {
        let ids = turns
            .iter()
            .zip(0..)
            .flat_map(|(events, turn)| (0..events.len()).map(move |index| format!("{run}.{turn}.{index}")));
        let (expected, found) = (ids.collect::<Vec<_>>(), order.remove(run).unwrap_or_default());
        expect(expected == found, || format!("the events of {id} are {found:?}, expected {expected:?}"))?;
    }
    expect(order.is_empty(), || format!("events of unknown runs: {order:?}"))
}

/// All but timers of what has long ended. Dead letters must not be.
async fn left_in_queues(messages: &Embedded) -> Result<Vec<Message>, String> {
    let name = |name: &str| SubscriptionName::new(name).map_err(text);
    let topic = |name: String| TopicName::new(name).map_err(text);
    let sources = [
        (topic(format!("workflow.{}.commands", Piece::NAME))?, Ordering::ByKey { partitions: PARTITIONS }),
        (topic("service.Band.tasks".to_owned())?, Ordering::Shared),
    ];
    let mut left = Vec::new();
    for (topic, ordering) in sources {
        let source = SubscriptionTopics::new(topic.clone(), name("workers")?, ordering);
        let dead = source.dead_topic().map_err(text)?.ok_or("no dead letters")?;
        let dead = drain(messages, ConsumerOptions::new(name("admin")?, [dead]), 1).await?;
        expect(dead.is_empty(), || format!("dead letters of {topic}: {dead:?}"))?;
        left.extend(drain(messages, ConsumerOptions::new(name("workers")?, [topic]), ordering.partitions()).await?);
    }
    let now = SystemClock.now();
    let is_late = |message: &Message| message.not_before.is_some_and(|due| due > now) && is_timer(&message.payload);
    left.retain(|message| !is_late(message));
    Ok(left)
}

fn is_timer(payload: &[u8]) -> bool {
    ["TimerDue", "TaskExpired", "StepOverdue"]
        .iter()
        .any(|name| payload.starts_with(format!("{{\"{name}\"").as_bytes()))
}

/// Everything that waits for a subscription, up to a last message that is published to each of its partitions. It is
/// left there.
async fn drain(broker: &Embedded, options: ConsumerOptions, partitions: u32) -> Result<Vec<Message>, String> {
    let topic = options.topics[0].clone();
    let producer = broker.producer(ProducerOptions::default()).await.map_err(text)?;
    let belongs = |key: &String, partition| partition_of(key.as_bytes(), partitions).0 == partition;
    let key_of = |partition| (0_u32..).map(|n| n.to_string()).find(|key| belongs(key, partition));
    let last = (0..partitions).filter_map(key_of).map(|key| Message::new(topic.clone(), "the-last", "").key(key));
    for result in producer.publish(last.collect()).await {
        result.map_err(text)?;
    }
    let mut consumer = broker.consumer(options).await.map_err(text)?;
    let reading = read(&mut consumer, partitions);
    let messages = tokio::time::timeout(TIME_LIMIT, reading).await;
    messages.map_err(|_| format!("{topic} cannot be read to its end"))?
}

async fn read(consumer: &mut Box<dyn Consumer>, mut partitions: u32) -> Result<Vec<Message>, String> {
    let mut messages = Vec::new();
    while partitions > 0 {
        let Event::Deliveries(deliveries) = consumer.next().await.map_err(text)? else { continue };
        for delivery in deliveries {
            if delivery.message.id.as_str() == "the-last" {
                partitions -= 1;
                consumer.settle(&[delivery.token]);
            } else {
                messages.push(delivery.message);
            }
        }
    }
    consumer.flush().await.map_err(text)?;
    Ok(messages)
}

/// By then every timer that is still set has fallen due.
#[derive(Debug)]
struct Tomorrow;

impl Clock for Tomorrow {
    fn now(&self) -> Timestamp {
        SystemClock.now() + DAY
    }
}

async fn scan(state: &Embedded, space: &'static str) -> Result<Vec<(Vec<u8>, Vec<u8>)>, String> {
    let transactions = state.transactions().ok_or("no transactions")?;
    let entries = transactions.scan(ScanRange::prefix(space, ""), usize::MAX).await.map_err(text)?;
    Ok(entries.into_iter().map(|entry| (entry.key.to_vec(), entry.value.to_vec())).collect())
}

fn parse<'v, T: Deserialize<'v>>(value: &'v [u8]) -> Result<T, String> {
    serde_json::from_slice(value).map_err(|error| format!("{error} in {}", value.escape_ascii()))
}

fn utf8(bytes: &[u8]) -> Result<String, String> {
    String::from_utf8(bytes.to_vec()).map_err(text)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn expect(holds: bool, otherwise: impl FnOnce() -> String) -> Finding {
    if holds { Ok(()) } else { Err(otherwise()) }
}

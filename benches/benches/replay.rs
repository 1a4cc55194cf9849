//! Measures the replay of an instance from its history: the cost of a miss in the cache of live instances, without
//! reading the history.
//!
//! `cargo xtask bench replay`

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use partitura::{Cx, Never, TaskError, join_all};
use partitura_workflow::{Definition, Event, EventKind, Execution, Payload, RULES, Started, Workflow};

/// The number of tasks. Each task is one event when it is scheduled and one when it has ended.
const TASKS: u32 = 5_000;

/// Rates of exchange.
#[partitura::service]
trait Rates {
    async fn rate(&self, currency: String) -> Result<u64, Never>;
}

/// One task after the other.
#[derive(Default)]
struct Sequence;

#[partitura::workflow]
impl Sequence {
    #[run]
    async fn run(cx: Cx<Self>, tasks: u32) -> Result<u64, TaskError<Never>> {
        let rates = cx.service::<RatesStub>();
        let mut sum = 0;
        for task in 0..tasks {
            sum += rates.rate(task.to_string()).await?;
        }
        Ok(sum)
    }
}

/// All of them at once.
#[derive(Default)]
struct FanOut;

#[partitura::workflow]
impl FanOut {
    #[run]
    async fn run(cx: Cx<Self>, tasks: u32) -> Result<u64, TaskError<Never>> {
        let rates = cx.service::<RatesStub>();
        join_all((0..tasks).map(|task| rates.rate(task.to_string()))).await.into_iter().sum()
    }
}

/// The history that an engine would have recorded.
fn history<W: Workflow<Input = u32>>() -> Vec<Event> {
    let started = Event::new(
        0,
        EventKind::WorkflowStarted(Box::new(Started {
            workflow: W::NAME.to_owned(),
            id: "replayed".to_owned(),
            run: "018f0000-0000-7000-8000-000000000000".to_owned(),
            seed: 1,
            input: payload(TASKS),
            parent: None,
            reply_to: None,
            tags: Vec::new(),
            rules: RULES,
            version: 1,
            deadline: None,
            run_timeout_ms: None,
            retry: None,
            trace: None,
            continued: None,
        })),
    );
    let (mut execution, turn) = Execution::start(&Definition::for_workflow::<W>(), started.clone()).expect("it starts");
    let mut history = vec![started];
    history.extend(turn.events);
    for seq in 1..=TASKS {
        let completed = Event::new(u64::from(seq), EventKind::TaskCompleted { seq, result: payload(1) });
        history.push(completed.clone());
        history.extend(execution.apply(completed).expect("it goes on").events);
    }
    assert!(execution.is_closed(), "the workflow has ended");
    history
}

fn payload(number: u32) -> Payload {
    Payload::encode(&number).expect("a number")
}

fn replays<W: Workflow<Input = u32>>(criterion: &mut Criterion, shape: &str) {
    let history = history::<W>();
    let stored: Vec<String> =
        history.iter().map(|event| serde_json::to_string(event).expect("events are data")).collect();
    let definition = Definition::for_workflow::<W>();
    let mut group = criterion.benchmark_group(format!("{shape} of {TASKS} tasks"));
    group.throughput(Throughput::Elements(history.len() as u64)).sample_size(20);
    group.bench_function("decode", |bencher| {
        bencher.iter(|| -> Vec<Event> {
            stored.iter().map(|line| serde_json::from_str(black_box(line)).expect("what was written")).collect()
        });
    });
    group.bench_function("replay", |bencher| {
        let replay = |history| Execution::replay(&definition, history).expect("the same code");
        bencher.iter_batched(|| history.clone(), replay, BatchSize::LargeInput);
    });
    group.finish();
}

fn all(criterion: &mut Criterion) {
    replays::<Sequence>(criterion, "sequence");
    replays::<FanOut>(criterion, "fan-out");
}

criterion_group!(replay, all);
criterion_main!(replay);

use std::time::Instant;

use partitura::Never;
use partitura::{Cx, Event, TaskError, join_all};
use partitura_macros::workflow;

use crate::calls::PaymentsStub;
use crate::harness::{Live, replay};

#[derive(Default)]
struct FanOut;

#[workflow]
impl FanOut {
    #[run]
    async fn run(cx: Cx<Self>, calls: u64) -> Result<u64, TaskError<Never>> {
        let payments = cx.service::<PaymentsStub>();
        let rates = join_all((0..calls).map(|n| payments.rate(n.to_string()))).await;
        rates.into_iter().sum()
    }
}

#[test]
fn a_thousand_tasks_are_joined() {
    let mut live = Live::<FanOut>::start(1_000).unchecked();
    for seq in (1..=1_000).rev() {
        live.complete(seq, u64::from(seq));
    }
    assert_eq!(live.result(), 500_500);
    live.check_replay();
}

#[derive(Default)]
struct Loop;

#[workflow]
impl Loop {
    #[run]
    async fn run(cx: Cx<Self>, calls: u64) -> Result<u64, TaskError<Never>> {
        let payments = cx.service::<PaymentsStub>();
        let mut sum = 0;
        for n in 0..calls {
            sum += payments.rate(n.to_string()).await?;
        }
        Ok(sum)
    }
}

fn sequential(calls: u32) -> Vec<Event> {
    let mut live = Live::<Loop>::start(u64::from(calls)).unchecked();
    for seq in 1..=calls {
        live.complete(seq, 1);
    }
    assert_eq!(live.result(), u64::from(calls));
    live.history
}

#[test]
fn ten_thousand_calls_one_after_another_are_replayed() {
    let history = sequential(10_000);
    let (replayed, turn) = replay::<Loop>(&history).unwrap();
    assert!(replayed.is_closed() && turn.events.is_empty());
}

/// `cargo test --release -p partitura-workflow -- --ignored --nocapture timing`
#[test]
#[ignore = "prints timings"]
fn timing_of_replays() {
    let mut fan_out = Live::<FanOut>::start(5_000).unchecked();
    for seq in 1..=5_000 {
        fan_out.complete(seq, 1_u64);
    }
    time("10,000 events, sequential calls", &sequential(5_000), |history| replay::<Loop>(history).is_ok());
    time("10,000 events, one join_all", &fan_out.history, |history| replay::<FanOut>(history).is_ok());
}

fn time(what: &str, history: &[Event], run: impl Fn(&[Event]) -> bool) {
    let lines: Vec<String> = history.iter().map(|event| serde_json::to_string(event).unwrap()).collect();
    let (mut decoding, mut replaying) = (Vec::new(), Vec::new());
    for _ in 0..20 {
        let began = Instant::now();
        let decoded: Vec<Event> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        decoding.push(began.elapsed());
        let began = Instant::now();
        assert!(run(&decoded));
        replaying.push(began.elapsed());
    }
    decoding.sort();
    replaying.sort();
    println!(
        "{what}: {} events, decoding {:?}, replay {:?} (median of 20)",
        history.len(),
        decoding[10],
        replaying[10]
    );
}

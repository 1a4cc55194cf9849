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

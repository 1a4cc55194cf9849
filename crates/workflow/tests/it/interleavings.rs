//! Whatever the order in which things arrive, the replay ends where the live run ended.

use futures::FutureExt;
use partitura::{ChildError, Cx, EventKind, Failure, FailureKind, TaskError, days, join, join_all, millis};
use partitura_macros::{select, workflow};
use proptest::prelude::*;

use crate::calls::{Declined, PaymentsStub};
use crate::harness::{Live, payload, replay};

/// A bit of everything at once.
#[derive(Default)]
struct Busy {
    opened: u32,
}

#[workflow]
impl Busy {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<String, String> {
        let payments = cx.service::<PaymentsStub>();
        let mut saga = cx.saga();
        let mut log = Vec::new();

        let charges = join_all((0..3).map(|n| payments.charge(n.to_string(), n)));
        let raced = async {
            select! {
                rate = payments.rate("EUR".to_owned()) => format!("rate {rate:?}"),
                _ = cx.sleep(days(1)) => "slept".to_owned(),
                opened = cx.until(|state| state.opened > 1) => format!("opened {opened:?}"),
            }
        };
        let received = async {
            let numbers = cx.channel::<u32>("numbers");
            let (even, any) = join!(numbers.recv_where(|n| n % 2 == 0), numbers.recv());
            format!("{even:?} {any:?}")
        };
        let child = cx.child::<Busy>("child").run(()).map(|outcome: Result<String, ChildError<String>>| outcome);
        let (charges, raced, received, child) = join!(charges, raced, received, child);
        log.push(format!("{charges:?} {raced} {received} {child:?} {}", cx.now()));

        for receipt in charges.into_iter().flatten() {
            saga.on_failure(payments.refund(receipt));
        }
        let step = cx.step("step", async { Ok::<_, String>(1) }).await;
        let mut pause = cx.sleep(millis(1 + cx.random::<u64>() % 10)).start();
        let last = select! {
            last = payments.charge("last".to_owned(), 9) => last,
            _ = &mut pause => Err(TaskError::TimedOut),
        };
        log.push(format!("{step:?} {last:?} {}", cx.uuid()));
        match last {
            Ok(_) => Ok(log.join("; ")),
            Err(_) => saga.fail(log.join("; ")).await,
        }
    }

    #[signal]
    fn open(&mut self) {
        self.opened += 1;
    }
}

/// An input that may arrive next, by the number of a command that is open, or out of the blue.
#[derive(Debug, Clone)]
enum Arrival {
    Resolve(prop::sample::Index, bool),
    Open,
    Number(u32),
    Cancel,
}

fn arrivals() -> impl Strategy<Value = Vec<Arrival>> {
    let arrival = prop_oneof![
        10 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(index, well)| Arrival::Resolve(index, well)),
        2 => Just(Arrival::Open),
        3 => (0_u32..9).prop_map(Arrival::Number),
        1 => Just(Arrival::Cancel),
    ];
    prop::collection::vec(arrival, 0..40)
}

/// The result of an open command, good or bad.
fn resolution(command: &EventKind, well: bool) -> Option<EventKind> {
    let failure = || Failure::application(&Declined("no".to_owned()), "no");
    Some(match command {
        EventKind::TaskScheduled { seq, .. } if !well => {
            EventKind::TaskFailed { seq: *seq, failure: failure(), attempts: 2 }
        }
        EventKind::TaskScheduled { seq, method, .. } => {
            let result = match method.as_str() {
                "charge" => payload(&format!("receipt-{seq}")),
                "rate" => payload(&seq),
                _ => payload(&()),
            };
            EventKind::TaskCompleted { seq: *seq, result }
        }
        EventKind::TimerStarted { seq, .. } => EventKind::TimerFired { seq: *seq },
        EventKind::ChildStarted { seq, .. } if well => {
            EventKind::ChildCompleted { seq: *seq, result: payload(&"done") }
        }
        EventKind::ChildStarted { seq, .. } => {
            EventKind::ChildFailed { seq: *seq, failure: Failure::new(FailureKind::Unknown, "lost") }
        }
        EventKind::StepScheduled { seq, .. } => EventKind::StepCompleted { seq: *seq, result: payload(&1) },
        _ => return None,
    })
}

fn open_commands(live: &Live<Busy>) -> Vec<EventKind> {
    live.history
        .iter()
        .map(|event| &event.kind)
        .filter(|kind| kind.seq().is_some_and(|seq| live.execution.is_open(seq)))
        .filter(|kind| resolution(kind, true).is_some())
        .cloned()
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_interleaving_ends_the_same_live_and_replayed(arrivals in arrivals(), cut in any::<prop::sample::Index>()) {
        let mut live = Live::<Busy>::start(());
        for arrival in arrivals {
            if live.execution.is_closed() {
                break;
            }
            match arrival {
                Arrival::Resolve(index, well) => {
                    let open = open_commands(&live);
                    if !open.is_empty() {
                        live.apply(resolution(index.get(&open), well).unwrap());
                    }
                }
                Arrival::Open => drop(live.signal("open", ())),
                Arrival::Number(number) => drop(live.signal("numbers", number)),
                Arrival::Cancel if live.execution.is_cancel_requested() => {}
                Arrival::Cancel => drop(live.cancel()),
            }
        }

        // Every replay after every input has agreed (the harness checks). From any point, going on after a replay is
        // the same, too.
        let cut = 1 + cut.index(live.history.len());
        let (mut resumed, turn) = replay::<Busy>(&live.history[..cut]).unwrap();
        let mut events = live.history[..cut].to_vec();
        let missing = turn.events;
        for event in live.history[cut..].iter().filter(|event| event.kind.is_input()) {
            events.push(event.clone());
            events.extend(resumed.apply(event.clone()).unwrap().events);
        }
        prop_assert_eq!(resumed.outcome(), live.execution.outcome());
        prop_assert_eq!(events.len() + missing.len(), live.history.len());
    }
}

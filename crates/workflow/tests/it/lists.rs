//! Several futures of one list: the first, the first that is well, those that come in time.

use partitura::{Cx, Never, ReceiveError, TaskError, join, seconds};
use partitura_macros::workflow;
use serde::{Deserialize, Serialize};

use crate::harness::{Live, panic_failure};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum How {
    Any,
    AnyOk,
    AllUntil,
    AnyOfNone,
    OkOfNone,
}

/// Awaits four steps in one of the ways.
#[derive(Debug, Default)]
struct Lists;

#[workflow]
impl Lists {
    #[run]
    async fn run(cx: Cx<Self>, how: How) -> Result<String, TaskError<u32>> {
        let step = |number: u32| {
            let result = if number == 3 { Ok(number) } else { Err(number) };
            cx.step(number.to_string(), async move { result })
        };
        let steps = (1..=4).map(step);
        Ok(match how {
            How::Any => format!("{:?}", cx.any(steps).await),
            How::AnyOk => format!("{:?}", cx.any_ok(steps).await),
            How::AllUntil => {
                let ended = cx.all_until(cx.sleep(seconds(5)), steps).await;
                format!("{:?}", ended.into_iter().map(|one| one.map(|one| one.ok())).collect::<Vec<_>>())
            }
            How::AnyOfNone => format!("{:?}", cx.any(std::iter::empty::<partitura::Sleep>()).await),
            How::OkOfNone => format!("{:?}", cx.any_ok(steps.take(0)).await),
        })
    }
}

/// Runs the step that is at this place of those that are open.
fn run(live: &mut Live<Lists>, place: usize) {
    live.steps.swap(0, place);
    live.run_step();
}

#[test]
fn the_first_of_a_list_wins_and_the_others_are_cancelled() {
    let mut live = Live::<Lists>::start(How::Any);
    assert_eq!(live.steps.len(), 4, "all have begun");
    run(&mut live, 2);
    assert_eq!(live.result(), "(2, Ok(3))");
    let mut live = Live::<Lists>::start(How::Any);
    run(&mut live, 3);
    assert_eq!(live.result(), "(3, Err(Failed(4)))");
}

#[test]
fn the_first_that_is_well_wins_and_if_none_is_all_errors_are_there_in_their_order() {
    let mut live = Live::<Lists>::start(How::AnyOk);
    run(&mut live, 3);
    run(&mut live, 0);
    assert!(!live.execution.is_closed());
    let place = live.steps.iter().position(|step| step.name == "3").unwrap();
    run(&mut live, place);
    assert_eq!(live.result(), "Ok((2, 3))");
    let mut live = Live::<Lists>::start(How::AnyOk);
    for name in ["4", "1", "2"] {
        let place = live.steps.iter().position(|step| step.name == name).unwrap();
        run(&mut live, place);
    }
    let third = live.steps.remove(0);
    let panicked = partitura::EventKind::StepFailed { seq: third.seq, failure: panic_failure() };
    assert!(live.apply(panicked).result().starts_with("Err([Failed(1), Failed(2), Panicked"));
    assert_eq!(Live::<Lists>::start(How::OkOfNone).result(), "Err([])");
}

#[test]
fn what_comes_before_the_limit_is_there_and_the_rest_is_not() {
    let mut live = Live::<Lists>::start(How::AllUntil);
    let timer = live.history.iter().find_map(|event| match event.kind {
        partitura::EventKind::TimerStarted { seq, .. } => Some(seq),
        _ => None,
    });
    run(&mut live, 2);
    run(&mut live, 0);
    live.fire(timer.unwrap());
    assert_eq!(live.result(), "[None, Some(None), Some(Some(3)), None]");
    let mut live = Live::<Lists>::start(How::AllUntil);
    (0..4).for_each(|_| run(&mut live, 0));
    assert_eq!(live.result(), "[Some(None), Some(None), Some(Some(3)), Some(None)]", "the timer is not waited for");
}

#[test]
fn the_first_of_an_empty_list_stops_the_instance_with_the_reason() {
    let stop = Live::<Lists>::try_start(How::AnyOfNone).err().unwrap();
    assert!(stop.to_string().contains("cx.any waits for the first of a list"), "{stop}");
}

/// Takes from one channel in several places.
#[derive(Debug, Default)]
struct Receivers;

#[workflow]
impl Receivers {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(Vec<u32>, (usize, u32), u32), ReceiveError> {
        let numbers = cx.channel::<u32>("numbers");
        let small = async {
            let mut small = Vec::new();
            while small.len() < 2 {
                small.push(numbers.recv_where(|number| *number < 10).await?);
            }
            Ok::<_, ReceiveError>(small)
        };
        let large = cx.any([100, 10].map(|least| numbers.recv_where(move |number| *number >= least)));
        let (small, (place, large)) = join!(small, large);
        Ok((small?, (place, large?), numbers.recv().await?))
    }
}

#[test]
fn each_signal_goes_to_the_receiver_that_has_waited_longest_of_those_that_want_it() {
    let mut live = Live::<Receivers>::start(());
    for number in [200, 50, 3, 2] {
        live.signal("numbers", number);
    }
    // 50 is kept: both that want it were gone when it came.
    assert_eq!(live.result(), (vec![3, 2], (0, 200), 50));
}

/// Awaits a thousand at once.
#[derive(Debug, Default)]
struct Thousand;

#[workflow]
impl Thousand {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<usize, Never> {
        let timers = (0..1_000).map(|number| cx.sleep(seconds(60 + number)));
        Ok(cx.any(timers).await.0)
    }
}

#[test]
fn a_thousand_may_be_in_a_list() {
    let mut live = Live::<Thousand>::start(()).unchecked();
    live.fire(700);
    assert_eq!(live.result(), 699);
    live.check_replay();
}

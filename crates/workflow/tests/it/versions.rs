use partitura::{Cx, Never, StopReason, days};
use partitura_macros::workflow;

use crate::harness::{Live, reason, replay};

macro_rules! changing {
    ($name:ident, |$cx:ident| $body:block) => {
        #[derive(Default)]
        struct $name;

        #[workflow(name = "Changing")]
        impl $name {
            #[run]
            async fn run($cx: Cx<Self>) -> Result<u32, Never> {
                let _ = $cx.sleep(days(1)).await;
                $body
            }
        }
    };
}

changing!(Before, |cx| {
    let _ = cx.sleep(days(2)).await;
    Ok(1)
});

changing!(After, |cx| {
    let version = cx.version("wait longer", 1..=2);
    let _ = cx.sleep(if version == 1 { days(2) } else { days(20) }).await;
    assert_eq!(cx.version("wait longer", 1..=2), version);
    Ok(version)
});

changing!(MuchLater, |cx| {
    cx.version("wait longer", 2..=3);
    let _ = cx.sleep(days(20)).await;
    Ok(3)
});

#[test]
fn a_new_instance_gets_the_newest_version_and_keeps_it() {
    let mut live = Live::<After>::start(());
    live.fire(1);
    assert_eq!(live.commands()[1..], ["VersionMarked wait longer = 2", "TimerStarted 20d"]);
    live.fire(3);
    assert_eq!(live.result(), 2);
}

#[test]
fn an_instance_that_passed_before_the_change_keeps_the_oldest_version() {
    let mut live = Live::<Before>::start(());
    live.fire(1);
    let (mut execution, turn) = replay::<After>(&live.history).unwrap();
    assert_eq!(turn.events, []);
    let fired = partitura::Event::new(0, partitura::EventKind::TimerFired { seq: 2 });
    let turn = execution.apply(fired).unwrap();
    assert_eq!(turn.events[0].to_string(), "WorkflowCompleted");
    assert_eq!(live.commands().len(), 2);
}

#[test]
fn an_instance_that_has_not_come_to_the_change_gets_the_newest_version() {
    let live = Live::<Before>::start(());
    let (mut execution, _) = replay::<After>(&live.history).unwrap();
    let turn = execution.apply(partitura::Event::new(0, partitura::EventKind::TimerFired { seq: 1 })).unwrap();
    assert_eq!(turn.events[0].to_string(), "VersionMarked wait longer = 2");
}

#[test]
fn a_version_that_the_code_no_longer_supports_stops_the_instance() {
    let mut live = Live::<Before>::start(());
    live.fire(1);
    let stopped = reason(replay::<MuchLater>(&live.history));
    assert_eq!(
        stopped,
        StopReason::UnsupportedVersion { change: "wait longer".to_owned(), version: 1, supported: 2..=3 }
    );
    let mut live = Live::<After>::start(());
    live.fire(1);
    replay::<MuchLater>(&live.history).unwrap();
}

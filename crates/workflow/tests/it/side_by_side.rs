//! Versions of one workflow beside each other.

use partitura::{Cancelled, Cx, Definition, Event, EventKind, Execution, Started, StopReason, hours};
use partitura_macros::workflow;

use crate::harness::{Live, START, payload, reason, replay, started};

#[derive(Debug, Default)]
struct Meter;

#[workflow]
impl Meter {
    #[run]
    async fn run(cx: Cx<Self>, total: u64) -> Result<String, Cancelled> {
        cx.sleep(hours(1)).await?;
        if total > 100 {
            return cx.continue_in_version::<MeterV2, _>((total, "kWh".to_owned())).await;
        }
        Ok(format!("{total} in version {}", cx.workflow_version()))
    }
}

#[derive(Debug, Default)]
struct MeterV2;

#[workflow(name = "Meter", version = 2)]
impl MeterV2 {
    #[run]
    async fn run(cx: Cx<Self>, (total, unit): (u64, String)) -> Result<String, Cancelled> {
        cx.sleep(hours(2)).await?;
        Ok(format!("{total} {unit} in version {}", cx.workflow_version()))
    }
}

fn both() -> Definition {
    let mut both = Definition::for_workflow::<Meter>();
    assert!(both.add(Definition::for_workflow::<MeterV2>()));
    both
}

#[test]
fn new_instances_get_the_highest_version_and_a_version_is_there_once() {
    let mut both = both();
    assert_eq!((both.newest(), both.versions()), (2, vec![1, 2]));
    assert!(!both.add(Definition::for_workflow::<Meter>()));
}

#[test]
fn a_history_is_replayed_with_the_code_of_its_version() {
    let fired = Event::new(START + 1, EventKind::TimerFired { seq: 1 });
    let mut one = Live::<Meter>::start(1);
    one.fire(1);
    let two = Live::<MeterV2>::start((2, "l".to_owned()));
    let (_, turn) = Execution::replay(&both(), one.history.clone()).unwrap();
    assert_eq!(turn.events, []);
    let (mut execution, _) = Execution::replay(&both(), two.history.clone()).unwrap();
    execution.apply(fired).unwrap();
    let result = payload(&"2 l in version 2");
    assert_eq!(execution.outcome(), Some(&EventKind::WorkflowCompleted { result }));
    let unknown = reason(replay::<Meter>(&two.history));
    assert_eq!(unknown, StopReason::UnknownVersion { version: 2, known: vec![1] });
}

#[test]
fn a_history_from_before_there_were_versions_is_of_the_first() {
    let event = r#"{"at":1,"event":{"WorkflowStarted":{"workflow":"Meter","id":"m","run":"r","seed":1,"input":1}}}"#;
    let event: Event = serde_json::from_str(event).unwrap();
    let EventKind::WorkflowStarted(started) = &event.kind else { panic!("no start") };
    assert_eq!(started.version, 1);
    Execution::start(&both(), event).unwrap();
}

#[test]
fn code_may_continue_as_new_in_another_version() {
    let mut one = Live::<Meter>::start(101);
    one.fire(1);
    let Some(EventKind::WorkflowContinued { input, version: Some(2), .. }) = one.execution.outcome().cloned() else {
        panic!("{:?}", one.execution.outcome());
    };
    let continued = one.execution.take_continuation();
    let EventKind::WorkflowStarted(first) = started::<Meter>(&0).kind else { panic!("no start") };
    let next = Started { input, continued, version: 2, ..*first };
    let (execution, turn) =
        Execution::start(&both(), Event::new(START, EventKind::WorkflowStarted(Box::new(next)))).unwrap();
    assert_eq!((turn.events.len(), execution.is_closed()), (1, false));
}

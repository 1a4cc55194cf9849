//! Ids that nobody can have are refused where they enter.

use partitura::{ChildError, Cx, EventKind, Never, ParentEnd, SendError, Signal, check_id, days};
use partitura_macros::workflow;

use crate::harness::{Live, replay, started};

fn unusable() -> [String; 4] {
    [String::new(), "x".repeat(513), "line\nbreak".to_owned(), "nul\0".to_owned()]
}

#[derive(Default)]
struct Asks;

#[workflow]
impl Asks {
    #[run]
    async fn run(cx: Cx<Self>, id: String) -> Result<Vec<String>, Never> {
        let mut problems = Vec::new();
        if let Err(ChildError::Unknown(problem)) = cx.child::<Asks>(&id).run(String::new()).await {
            problems.push(problem);
        }
        if let Err(ChildError::Unknown(problem)) = cx.child::<Asks>(&id).start(String::new()).await {
            problems.push(problem);
        }
        let signalled = cx.signal(&id, Signal::<Asks>::to_channel("numbers", &1));
        let detached = cx.child::<Asks>(&id).detach(String::new());
        let let_go = cx.child::<Asks>(&id).start(String::new()).detach();
        for result in [signalled, detached, let_go] {
            if let Err(SendError::InvalidId(problem)) = result {
                problems.push(problem.to_string());
            }
        }
        Ok(problems)
    }
}

#[test]
fn an_id_that_nobody_can_have_is_an_error_to_the_code_at_once() {
    for id in unusable() {
        let live = Live::<Asks>::start(id.clone());
        assert_eq!(live.lines(), ["WorkflowCompleted"], "{id:?}");
        let problems = live.result();
        assert_eq!(problems.len(), 5, "{problems:?}");
        assert!(problems.iter().all(|problem| problem.contains("cannot be the id of a workflow")), "{problems:?}");
    }
    for id in ["x", "Bestellung 42/ü", &"x".repeat(512)] {
        check_id(id).unwrap();
    }
}

#[test]
fn a_parent_that_began_under_earlier_rules_is_replayed_as_it_was() {
    let mut first = started::<Asks>(&String::new());
    let EventKind::WorkflowStarted(start) = &mut first.kind else { unreachable!() };
    start.rules = 0;
    let (_, turn) = replay::<Asks>(&[first]).unwrap();
    assert!(matches!(turn.events[0].kind, EventKind::ChildStarted { .. }));
}

#[derive(Default)]
struct Parent;

#[workflow]
impl Parent {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(), Never> {
        let child = cx.child::<Asks>("c").tags(["a", "b"]).replace_existing().on_parent_end(ParentEnd::Abandon);
        drop(child.start("x".to_owned()));
        let _ = cx.sleep(days(1)).await;
        Ok(())
    }
}

#[test]
fn what_is_said_of_a_child_is_recorded_with_its_start() {
    let live = Live::<Parent>::start(());
    let text = serde_json::to_string(&live.history[1].kind).unwrap();
    assert_eq!(
        text,
        r#"{"ChildStarted":{"seq":1,"workflow":"Asks","id":"c","input":"x","tags":["a","b"],"replace":true,"on_parent_end":"Abandon"}}"#
    );
}

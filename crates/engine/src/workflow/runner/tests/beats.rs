//! The messages to the attempts of a task.

use partitura_workflow::{Caller, Failure, FailureKind, Never, ServiceStub, TaskOptions};

use super::*;
use crate::wire::TaskRequest;

struct Stub(Caller);

impl ServiceStub for Stub {
    const NAME: &'static str = "Service";

    fn new(caller: Caller) -> Self {
        Self(caller)
    }
}

/// Awaits a task whose heartbeats its owner watches.
#[derive(Debug, Default)]
struct Caring;

impl Workflow for Caring {
    const NAME: &'static str = Tally::NAME;
    type Input = u64;
    type Output = u64;
    type Error = String;

    async fn run(cx: Cx<Self>, limit: u64) -> Result<u64, String> {
        let options = TaskOptions { heartbeat_timeout: Some(Duration::from_secs(limit)), ..TaskOptions::default() };
        let Stub(caller) = cx.service::<Stub>();
        let task = caller.task::<u64, Never>("Service", "method", Payload::encode(&()), options);
        task.await.map_err(|error| error.to_string())
    }

    fn describe(error: &String) -> String {
        error.clone()
    }
}

fn beat(attempt: u32, reply_to: ReplyTo) -> Command {
    Command::Heartbeat {
        run: FIRST.to_owned(),
        seq: 1,
        attempt,
        details: None,
        alive: true,
        by_token: false,
        held_up: None,
        reply_to,
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_begins_beside_a_copy_of_the_failure_before_it_goes_on() {
    let stage = Stage::new().await;
    let owner = stage.owner::<Caring>().await;
    stage.turn(&owner, [("s", start(FIRST, 60, StartPolicy::UseExisting))]).await;
    let (turn_store, key) = (&owner.runner.0.context.turn_store, &stage.key);
    let events = crate::storage::history::load(turn_store, key, FIRST).await.expect("a history").events;
    let request = events.iter().find_map(|event| TaskRequest::first(key, FIRST, event)).expect("a task");
    let failed = || Command::AttemptFailed {
        request: Box::new(request.clone()),
        failure: Failure::new(FailureKind::Panic, "a flaw"),
        retry_at: 0,
        details: None,
    };
    let (mut first, mut second) = (stage.mailbox.line(), stage.mailbox.line());
    stage.turn(&owner, [("b1", beat(1, first.address().clone()))]).await;
    assert!(matches!(first.next().await, ReplyBody::Heartbeat { wanted: true, .. }));
    stage.turn(&owner, [("f", failed())]).await;
    assert!(matches!(first.next().await, ReplyBody::Heartbeat { wanted: false, .. }));
    stage.turn(&owner, [("f", failed()), ("b2", beat(2, second.address().clone()))]).await;
    assert!(matches!(second.next().await, ReplyBody::Heartbeat { wanted: true, .. }));
    let silence = tokio::time::timeout(Duration::from_secs(10), second.next()).await;
    assert!(silence.is_err(), "{silence:?}");
    // It listens, and is told when that is so.
    stage.turn(&owner, [("t", Command::Terminate { reason: "enough".into(), request: Request::default() })]).await;
    assert!(matches!(second.next().await, ReplyBody::Heartbeat { wanted: false, .. }));
}

#[tokio::test(start_paused = true)]
async fn a_task_that_says_where_it_listens_in_the_batch_that_ends_its_workflow_is_told() {
    let stage = Stage::new().await;
    let owner = stage.owner::<Caring>().await;
    stage.turn(&owner, [("s", start(FIRST, 60, StartPolicy::UseExisting))]).await;
    let mut line = stage.mailbox.line();
    let batch = [
        ("b", beat(1, line.address().clone())),
        ("t", Command::Terminate { reason: "enough".into(), request: Request::default() }),
    ];
    stage.turn(&owner, batch).await;
    let answers = [line.next().await, line.next().await];
    let wanted = answers.map(|body| matches!(body, ReplyBody::Heartbeat { wanted: true, .. }));
    assert_eq!(wanted, [true, false]);
}

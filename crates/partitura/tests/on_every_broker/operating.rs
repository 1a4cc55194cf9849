//! The view and the actions of operators, without the Rust types of workflows.

use partitura::{ClientError, Destination, Payload, StartPolicy, StatusKind, Waiting};
use serde_json::json;

use crate::stage::Stage;
use crate::support::{Waits, soon};

pub(crate) async fn an_operator_sees_who_is_served_and_acts_without_types(stage: Stage) {
    let [service, operator] = stage.processes(|settings| settings).await;
    let worker = service.worker().build_id("b-7").workflow::<Waits>().start().await.expect("a worker");
    let destination = Destination::Workflow("Waits".to_owned());
    let served = soon(operator.served()).await.expect("read");
    assert!(served.iter().any(|served| served.destination == destination && served.build == "b-7"), "{served:?}");
    assert!(operator.topics(&destination).expect("names").takes.ends_with("workflow.Waits.commands"));

    let waits = operator.client().instance("Waits", "w-1");
    let start = || waits.start(Payload::null(), vec!["green".to_owned()], StartPolicy::Reject);
    assert!(soon(start()).await.expect("started").is_new);
    assert!(matches!(soon(start()).await, Err(ClientError::AlreadyExists { .. })));
    let described = soon(waits.describe_by_worker()).await.expect("an answer");
    assert_eq!((described.status.kind(), &described.waiting[..]), (StatusKind::Running, &[Waiting::Condition][..]));
    let answer = soon(waits.query("is_released", &json!({}))).await.expect("an answer");
    assert_eq!(answer.as_json(), "false");

    operator.declare(&destination).await.expect("they exist");
    let letters = operator.dead_letters(&destination).expect("names");
    assert_eq!(soon(letters.list(10)).await.expect("read").len(), 0);
    soon(waits.signal("release", &json!({"with": "tea"})).confirmed().into_future()).await.expect("taken");
    assert_eq!(soon(operator.client().workflow::<Waits>("w-1").result()).await.expect("a result"), "tea");
    worker.stop().await.expect("stopped");
}

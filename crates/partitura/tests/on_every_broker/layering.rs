//! Layers are around requests, turns and tasks.

use std::sync::{Arc, Mutex, PoisonError};

use partitura::{
    ClientCall, ClientError, Cx, Layer, Next, Payload, StartPolicy, TaskCall, TaskError, TaskResult, TurnCall,
    TurnResult,
};

use crate::stage::Stage;
use crate::support::{Oops, TextService, TextStub, Texts, Three, soon};

/// Notes what passes, before and after.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn note(&self, what: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Layer for Log {
    async fn task(&self, call: &TaskCall<'_>, next: Next<'_, TaskResult>) -> TaskResult {
        let result = next.await;
        let said =
            result.as_ref().map_or_else(|failed| failed.failure.message.clone(), |said| said.as_json().to_owned());
        self.note(format!("task {}.{} {}", call.service(), call.method(), said));
        result
    }

    async fn turn(&self, turn: &TurnCall<'_>, next: Next<'_, TurnResult>) -> TurnResult {
        let result = next.await;
        self.note(format!("turn {}/{} {}", turn.workflow(), turn.id(), result.is_ok()));
        result
    }

    async fn request(&self, call: &ClientCall<'_>, next: Next<'_, Result<(), ClientError>>) -> Result<(), ClientError> {
        let result = next.await;
        self.note(format!("request {} {}/{} {}", call.name(), call.workflow(), call.id(), result.is_ok()));
        result
    }
}

/// Lets nobody refuse anything, nor terminate.
struct Rules;

impl Layer for Rules {
    async fn task(&self, call: &TaskCall<'_>, next: Next<'_, TaskResult>) -> TaskResult {
        match (call.method(), call.context().workflow()) {
            ("refuse", workflow) => call.refuse(format!("{workflow} may not do that")),
            _ => next.await,
        }
    }

    async fn request(&self, call: &ClientCall<'_>, next: Next<'_, Result<(), ClientError>>) -> Result<(), ClientError> {
        match call.name() {
            "terminate" => Err(ClientError::Refused("only the night shift may do that".to_owned())),
            _ => next.await,
        }
    }
}

#[derive(Debug, Default)]
struct Refuses;

#[partitura::workflow]
impl Refuses {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<String, Oops> {
        match cx.service::<TextStub>().refuse("tea".to_owned()).await {
            Err(TaskError::Unknown(problem)) => Ok(problem),
            other => Err(Oops::No(format!("{other:?}"))),
        }
    }
}

pub(crate) async fn layers_see_and_refuse_requests_turns_and_tasks(stage: Stage) {
    let log = Log::default();
    let seen = log.clone();
    let [partitura] = stage.processes_with(move |settings| settings.layer(seen.clone()).layer(Rules)).await;
    let worker = partitura.worker().service(TextService(Texts::default())).workflow::<Three>().workflow::<Refuses>();
    let worker = worker.layer(Log(log.0.clone())).start().await.expect("a worker");
    let client = partitura.client();
    let three = client.workflow::<Three>("t");
    soon(three.start("tea".to_owned()).confirmed()).await.expect("started");
    assert_eq!(soon(three.result()).await.expect("a result"), "tea...");
    let refuses = client.workflow::<Refuses>("r");
    refuses.start(()).await.expect("started");
    assert_eq!(soon(refuses.result()).await.expect("a result"), "Refuses may not do that");
    let again = client.instance("Three", "u");
    soon(again.start(Payload::from_json("\"tea\"").expect("JSON"), Vec::new(), StartPolicy::Reject))
        .await
        .expect("started");
    let refused = soon(again.terminate("no").into_future()).await.expect_err("not allowed").to_string();
    assert_eq!(refused, "only the night shift may do that");
    assert_eq!(soon(client.workflow::<Three>("u").result()).await.expect("a result"), "tea...");
    let all = log.all();
    for wanted in [
        "request start Three/t true",
        "turn Three/t true",
        "task Text.dot \"tea.\"",
        "task Text.refuse Refuses may not do that",
        "request terminate Three/u false",
    ] {
        assert!(all.iter().any(|said| said == wanted), "{wanted}: {all:?}");
    }
    // One is around all of them, and one inside of that, which a refusal does not reach.
    assert_eq!(all.iter().filter(|said| *said == "task Text.dot \"tea.\"").count(), 4);
    assert_eq!(all.iter().filter(|said| said.starts_with("task Text.refuse")).count(), 1);
    worker.stop().await.expect("stopped");
}

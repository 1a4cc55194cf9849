//! Instances, workflows, services and methods are paused, and nothing that arrives meanwhile is lost.

use std::sync::{Arc, Mutex, PoisonError};

use partitura::{ClientError, Cx, Pausable, Payload, StartPolicy, StatusKind, join_all, millis};

use crate::stage::Stage;
use crate::support::{Oops, Waits, WaitsQuery, WaitsSignal, soon};

#[partitura::service]
trait Till {
    async fn charge(&self, number: u32) -> Result<u32, Oops>;
    async fn show(&self, number: u32) -> Result<u32, Oops>;
}

/// The calls, in the order in which they came.
#[derive(Debug, Clone, Default)]
struct CallLog(Arc<Mutex<Vec<String>>>);

impl CallLog {
    fn note(&self, what: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    fn count(&self, of: &str) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().filter(|what| what.starts_with(of)).count()
    }
}

impl Till for CallLog {
    async fn charge(&self, number: u32) -> Result<u32, Oops> {
        self.note(format!("charge {number}"));
        Ok(number)
    }

    async fn show(&self, number: u32) -> Result<u32, Oops> {
        self.note(format!("show {number}"));
        Ok(number)
    }
}

/// Calls one method of the till for each of some numbers, all at once.
#[derive(Debug, Default)]
struct Sells;

#[partitura::workflow]
impl Sells {
    #[run]
    async fn run(cx: Cx<Self>, asked: (bool, u32)) -> Result<u32, Oops> {
        let (charges, count) = asked;
        let till = cx.service::<TillStub>();
        let sold = match charges {
            true => join_all((0..count).map(|number| till.charge(number))).await,
            false => join_all((0..count).map(|number| till.show(number))).await,
        };
        Ok(sold.into_iter().collect::<Result<Vec<_>, _>>()?.len() as u32)
    }
}

pub(crate) async fn tasks_of_a_paused_service_wait_until_it_is_resumed(stage: Stage) {
    let [first, second] = stage.processes(|settings| settings).await;
    let [one, other] = [CallLog::default(), CallLog::default()];
    let selling = first.worker().service(TillService(one.clone())).workflow::<Sells>().start().await.expect("a worker");
    let helping = second.worker().service(TillService(other.clone())).start().await.expect("a worker");
    let client = first.client();
    let till = Pausable::service::<TillStub>();
    soon(client.pause(&till, "the cables are changed")).await.expect("paused");
    let paused = soon(second.client().pauses()).await.expect("read");
    assert_eq!((&paused[0].what, &*paused[0].reason, paused.len()), (&till, "the cables are changed", 1));

    let sells = client.workflow::<Sells>("s");
    sells.start((true, 20)).await.expect("started");
    let instance = client.instance("Sells", "s");
    while soon(instance.describe_by_worker()).await.expect("an answer").waits_for < 20 {}
    // A while in which tasks would run that are not paused.
    tokio::time::sleep(millis(500)).await;
    assert_eq!(one.count("charge") + other.count("charge"), 0);
    // The next worker finds the pause in the store.
    helping.stop().await.expect("stopped");
    let helping = second.worker().service(TillService(other.clone())).start().await.expect("a worker");
    soon(client.resume(&till)).await.expect("resumed");
    assert_eq!(soon(sells.result()).await.expect("a result"), 20);
    assert_eq!(one.count("charge") + other.count("charge"), 20);
    assert!(soon(client.pauses()).await.expect("read").is_empty());
    selling.stop().await.expect("stopped");
    helping.stop().await.expect("stopped");
}

/// The paused tasks take all the places that such tasks may have.
pub(crate) async fn other_methods_go_on_while_one_is_paused(stage: Stage) {
    let partitura = stage.application().await;
    let call_log = CallLog::default();
    let worker = partitura.worker().service(TillService(call_log.clone())).workflow::<Sells>().concurrency(8);
    let worker = worker.start().await.expect("a worker");
    let client = partitura.client();
    let charges = Pausable::method::<TillStub>("charge");
    soon(client.pause(&charges, "the acquirer is down")).await.expect("paused");
    let (sells, shows) = (client.workflow::<Sells>("sells"), client.workflow::<Sells>("shows"));
    sells.start((true, 4)).await.expect("started");
    let instance = client.instance("Sells", "sells");
    while soon(instance.describe_by_worker()).await.expect("an answer").waits_for < 4 {}
    shows.start((false, 12)).await.expect("started");
    assert_eq!(soon(shows.result()).await.expect("a result"), 12);
    assert_eq!(call_log.count("charge"), 0);
    soon(client.resume(&charges)).await.expect("resumed");
    assert_eq!(soon(sells.result()).await.expect("a result"), 4);
    worker.stop().await.expect("stopped");
}

pub(crate) async fn instances_of_a_paused_workflow_keep_what_arrives_and_go_on_with_it(stage: Stage) {
    let [first, second] = stage.processes(|settings| settings).await;
    let worker = first.worker().workflow::<Waits>().start().await.expect("a worker");
    let client = second.client();
    let (old, idle) = (client.workflow::<Waits>("old"), client.workflow::<Waits>("idle"));
    for waits in [&old, &idle] {
        soon(waits.start(()).confirmed()).await.expect("started");
    }
    let waits = Pausable::workflow::<Waits>();
    soon(client.pause(&waits, "a fault was found")).await.expect("paused");

    // Messages that arrive are recorded, by an instance that runs and by one that begins.
    let release =
        async |id: &str| client.workflow::<Waits>(id).signal(WaitsSignal::release(id.to_owned())).confirmed().await;
    soon(release("old")).await.expect("recorded");
    soon(client.workflow::<Waits>("new").start(()).confirmed()).await.expect("recorded");
    soon(release("new")).await.expect("recorded");
    for id in ["old", "new"] {
        let summary = soon(client.instance("Waits", id).summary()).await.expect("known");
        assert_eq!((summary.status.kind(), summary.paused_with_workflow), (StatusKind::Paused, true), "{id}");
        let told = soon(client.workflow::<Waits>(id).query(WaitsQuery::is_released())).await;
        let told = told.expect_err("no code runs").to_string();
        assert!(told.contains("a fault was found"), "{told}");
    }
    let refused = soon(client.instance("Waits", "old").resume().confirmed().into_future()).await;
    assert!(matches!(refused, Err(ClientError::Refused(_))), "{refused:?}");
    // An action that runs no code is done at once.
    let doomed = client.instance("Waits", "doomed");
    soon(doomed.start(Payload::null(), Vec::new(), StartPolicy::Reject)).await.expect("started");
    soon(doomed.terminate("not wanted").confirmed().into_future()).await.expect("ended");
    // One that is paused by hand stays so.
    let apart = client.instance("Waits", "apart");
    soon(apart.start(Payload::null(), Vec::new(), StartPolicy::Reject)).await.expect("started");
    soon(apart.pause("a look at it").confirmed().into_future()).await.expect("paused");

    // Another worker knows as well.
    worker.stop().await.expect("stopped");
    let worker = second.worker().workflow::<Waits>().start().await.expect("a worker");
    assert_eq!(soon(client.resume(&waits)).await.expect("resumed"), 2);
    for id in ["old", "new"] {
        assert_eq!(soon(client.workflow::<Waits>(id).result()).await.expect("a result"), id);
    }
    soon(release("idle")).await.expect("recorded");
    assert_eq!(soon(idle.result()).await.expect("a result"), "idle");
    assert_eq!(soon(apart.summary()).await.expect("known").status.kind(), StatusKind::Paused);
    let history = soon(client.instance("Waits", "old").history(0, usize::MAX)).await.expect("a history");
    let said: Vec<String> = history.events.iter().map(|event| event.kind.to_string()).collect();
    let pause = "WorkflowPaused (its workflow is paused: a fault was found)";
    assert!(said.iter().any(|said| said == pause), "{said:?}");
    worker.stop().await.expect("stopped");
}

//! Instances that answer while they are paused or have ended, that let their handlers end, and that were cancelled.

use partitura::history::EventKind;
use partitura::{ClientError, Cx, Signal, StartPolicy, Status, UpdateError, WorkflowError, hours};
use serde_json::json;

use crate::booths::{Booth, BoothSignal, BoothUpdate};
use crate::carts::{Cart, CartUpdate, add};
use crate::stage::Stage;
use crate::support::{Oops, TextService, Texts, Waits, WaitsQuery, WaitsSignal, eventually, soon};

pub(crate) async fn a_workflow_lets_its_handlers_end_or_cuts_them_short(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().service(TextService(Texts::default())).workflow::<Booth>();
    let worker = worker.start().await.expect("a worker");
    for is_patient in [true, false] {
        let booth = partitura.client().workflow::<Booth>(is_patient.to_string());
        booth.start(is_patient).await.expect("started");
        // The handler of this signal calls a service.
        booth.signal(BoothSignal::remember("a".into())).await.expect("sent");
        let close = async {
            let is_done =
                |kind: &EventKind| matches!(kind, EventKind::UpdateReceived { .. } | EventKind::TaskCompleted { .. });
            eventually(async || {
                let history = booth.history().await.ok()?;
                (history.iter().filter(|event| is_done(&event.kind)).count() == 2).then_some(())
            })
            .await;
            soon(booth.signal(BoothSignal::close("for good".into())).confirmed().into_future()).await.expect("taken");
            if is_patient {
                assert_eq!(soon(booth.describe()).await.expect("known").status, Status::Running);
                booth.signal(BoothSignal::rest()).await.expect("sent");
            }
        };
        let (thought, ()) = tokio::join!(soon(booth.update(BoothUpdate::think("tea".into())).into_future()), close);
        match thought {
            Ok(thought) => assert_eq!((is_patient, &*thought), (true, "thought about tea")),
            Err(error) => assert!(!is_patient && matches!(error, UpdateError::Interrupted { .. }), "{error:?}"),
        }
        assert_eq!(soon(booth.result()).await.expect("a result"), ["a."]);
    }
    worker.stop().await.expect("stopped");
}

pub(crate) async fn updates_and_queries_are_told_that_an_instance_is_paused_or_gone(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Cart>().workflow::<Waits>().start().await.expect("a worker");
    let client = partitura.client();
    let (cart, waits) = (client.workflow::<Cart>("c"), client.workflow::<Waits>("w"));
    let add = || soon(cart.update(add("nuts")).into_future());
    let unknown = add().await;
    assert!(matches!(unknown, Err(UpdateError::Client(ClientError::NotFound { .. }))), "{unknown:?}");
    cart.start(()).await.expect("started");
    waits.start(()).await.expect("started");
    soon(cart.pause("stocktaking").confirmed().into_future()).await.expect("paused");
    soon(waits.pause("stocktaking").confirmed().into_future()).await.expect("paused");
    let paused = add().await;
    assert!(matches!(&paused, Err(UpdateError::Stopped { reason }) if reason.contains("stocktaking")), "{paused:?}");
    let paused = soon(waits.query(WaitsQuery::is_released())).await;
    assert!(matches!(&paused, Err(ClientError::Refused(reason)) if reason.contains("stocktaking")), "{paused:?}");
    soon(cart.resume().because("all is counted").confirmed().into_future()).await.expect("resumed");
    assert_eq!(add().await.expect("added"), 1);
    cart.cancel("enough").await.expect("sent");
    assert!(matches!(soon(cart.result()).await, Err(WorkflowError::Cancelled { .. })));
    let ended = soon(cart.update(CartUpdate::pay()).into_future()).await;
    assert!(matches!(ended, Err(UpdateError::Client(ClientError::Ended { .. }))), "{ended:?}");
    worker.stop().await.expect("stopped");
}

/// Sleeps, and has a result though it is woken by its cancellation.
#[derive(Debug, Default)]
struct Unmoved;

#[partitura::workflow]
impl Unmoved {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<String, Oops> {
        let is_woken = cx.sleep(hours(1)).await.is_err();
        // The next wait is not cancelled again.
        let word = cx.channel::<String>("word").recv().await.map_err(|error| Oops::Task(error.to_string()))?;
        Ok(format!("{word} {is_woken} {}", cx.is_cancelled()))
    }
}

pub(crate) async fn a_cancelled_workflow_may_go_on_and_give_a_result(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Unmoved>().start().await.expect("a worker");
    let unmoved = partitura.client().workflow::<Unmoved>("u");
    soon(unmoved.start(()).confirmed()).await.expect("started");
    soon(unmoved.cancel("please").confirmed().into_future()).await.expect("taken");
    unmoved.signal(Signal::to_channel("word", &"still".to_owned())).await.expect("sent");
    assert_eq!(soon(unmoved.result()).await.expect("a result"), "still true true");
    assert_eq!(soon(unmoved.describe()).await.expect("known").status, Status::Completed);
    worker.stop().await.expect("stopped");
}

pub(crate) async fn a_request_for_another_run_has_no_effect(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Waits>().start().await.expect("a worker");
    let waits = partitura.client().workflow::<Waits>("w");
    let first = soon(waits.start(()).confirmed()).await.expect("started").run;
    let second = soon(waits.start(()).policy(StartPolicy::Replace).confirmed()).await.expect("started").run;
    let late = [
        waits.cancel("late").run(&*first).confirmed(),
        waits.signal(WaitsSignal::release("late".into())).run(&*first).confirmed(),
    ];
    for request in late {
        let refused = soon(request.into_future()).await;
        assert!(matches!(&refused, Err(ClientError::AnotherRun { run, .. }) if *run == second), "{refused:?}");
    }
    let release = waits.signal(WaitsSignal::release("in time".into())).run(&*second).confirmed();
    soon(release.into_future()).await.expect("taken");
    assert_eq!(soon(waits.result()).await.expect("a result"), "in time");
    worker.stop().await.expect("stopped");
}

pub(crate) async fn a_signal_that_cannot_be_read_is_refused_or_reported_to_its_receiver(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Waits>().workflow::<Unmoved>();
    let worker = worker.try_elsewhere(std::time::Duration::ZERO).start().await.expect("a worker");
    let client = partitura.client();
    let (waits, unmoved) = (client.instance("Waits", "w"), client.instance("Unmoved", "u"));
    client.workflow::<Waits>("w").start(()).await.expect("started");
    let wrong = soon(waits.signal("release", &json!({ "with": 7 })).confirmed().into_future()).await;
    assert!(matches!(wrong, Err(ClientError::Refused(_))), "{wrong:?}");
    soon(waits.signal("release", &json!({ "with": "tea" })).confirmed().into_future()).await.expect("taken");
    assert_eq!(soon(client.workflow::<Waits>("w").result()).await.expect("a result"), "tea");
    // A channel takes anything. Its receiver says what it can read.
    client.workflow::<Unmoved>("u").start(()).await.expect("started");
    soon(unmoved.cancel("wake up").confirmed().into_future()).await.expect("taken");
    soon(unmoved.signal("word", &7).confirmed().into_future()).await.expect("kept");
    match soon(client.workflow::<Unmoved>("u").result()).await {
        // It was asked to end, and has ended with an error.
        Err(WorkflowError::Cancelled { failure: Some(failure), .. }) => {
            assert!(failure.message.contains("word"), "{failure}");
        }
        other => panic!("{other:?}"),
    }
    worker.stop().await.expect("stopped");
}

pub(crate) async fn a_result_is_given_to_all_that_await_it(stage: Stage) {
    let [first, second] = stage.processes(|settings| settings).await;
    let worker = first.worker().workflow::<Waits>().start().await.expect("a worker");
    let handles: Vec<_> = (0..20)
        .map(|number| if number % 2 == 0 { first.client() } else { second.client() }.workflow::<Waits>("w"))
        .collect();
    soon(handles[0].start(()).confirmed()).await.expect("started");
    let awaited: Vec<_> =
        handles.iter().cloned().map(|waits| tokio::spawn(async move { waits.result().await })).collect();
    handles[1].signal(WaitsSignal::release("for all".into())).await.expect("sent");
    for result in awaited {
        assert_eq!(soon(result).await.expect("no panic").expect("a result"), "for all");
    }
    assert_eq!(soon(second.client().workflow::<Waits>("w").result()).await.expect("a result"), "for all");
    worker.stop().await.expect("stopped");
}

//! Names, namespaces, codecs and retention: under which names things are kept, apart from what, and for how long.

use std::error::Error;

use partitura::{
    ClientError, Cx, HistoryLimits, Never, PayloadCodec, Retention, Signal, Status, WorkflowError, millis,
};

use crate::schedules::Beat;
use crate::stage::Stage;
use crate::support::{Waits, WaitsQuery, WaitsSignal, eventually, soon};

pub(crate) async fn an_id_may_be_any_printable_text(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Waits>().start().await.expect("a worker");
    let client = partitura.client();
    let long = "ü".repeat(256);
    let ids = ["order 7/2: #1 & 50% *>?", "Zoë.Δ 日本語 🙂", "..", "\"quoted\" \\ 'text'", &long];
    for id in ids {
        let waits = client.workflow::<Waits>(id);
        waits.start(()).tag(id).await.expect("started");
        waits.signal(WaitsSignal::release(id.to_owned())).await.expect("sent");
        assert_eq!(soon(waits.result()).await.expect("a result"), id);
        let found = soon(client.instances().tag(id).first(9)).await.expect("found");
        assert_eq!(found.iter().map(|summary| &*summary.id).collect::<Vec<_>>(), [id]);
    }
    for id in [String::new(), "ü".repeat(257), "line\nline".to_owned()] {
        let refused = client.workflow::<Waits>(id).start(()).await;
        assert!(matches!(refused, Err(ClientError::InvalidId(_))), "{refused:?}");
    }
    worker.stop().await.expect("stopped");
}

/// The same id in two namespaces on one broker and one store.
pub(crate) async fn namespaces_on_one_broker_do_not_meet(stage: Stage) {
    let neighbours = stage.neighbours().await;
    let mut workers = Vec::new();
    for (number, partitura) in neighbours.iter().enumerate() {
        workers.push(partitura.worker().workflow::<Waits>().start().await.expect("a worker"));
        let waits = partitura.client().workflow::<Waits>("same");
        let started = soon(waits.start(()).tag(number.to_string()).confirmed()).await.expect("started");
        assert!(started.is_new);
    }
    let [one, other] = &neighbours;
    one.client().workflow::<Waits>("same").signal(WaitsSignal::release("one".into())).await.expect("sent");
    assert_eq!(soon(one.client().workflow::<Waits>("same").result()).await.expect("a result"), "one");
    assert!(!soon(other.client().workflow::<Waits>("same").query(WaitsQuery::is_released())).await.expect("an answer"));
    let found = soon(other.client().instances().first(9)).await.expect("found");
    assert_eq!(found.iter().map(|summary| &summary.tags[..]).collect::<Vec<_>>(), [["1"]]);
    for worker in workers {
        worker.stop().await.expect("stopped");
    }
}

pub(crate) async fn an_instance_is_kept_for_ever_by_name(stage: Stage) {
    let [partitura] = stage.processes(|settings| settings.retention(millis(300))).await;
    let worker = partitura.worker().workflow::<Beat>().workflow::<Waits>().retention::<Waits>(Retention::Forever);
    let worker = worker.start().await.expect("a worker");
    let (beat, waits) = (partitura.client().workflow::<Beat>("b"), partitura.client().workflow::<Waits>("w"));
    waits.start(()).with_signal(WaitsSignal::release("kept".into())).await.expect("started");
    assert_eq!(soon(waits.result()).await.expect("a result"), "kept");
    // It ends after the other, and is gone before it.
    soon(beat.start(1).confirmed()).await.expect("started");
    eventually(async || matches!(beat.describe().await, Err(ClientError::NotFound { .. })).then_some(())).await;
    assert_eq!(soon(waits.result()).await.expect("a result"), "kept");
    soon(waits.delete().confirmed().into_future()).await.expect("by hand");
    assert!(matches!(soon(waits.describe()).await, Err(ClientError::NotFound { .. })));
    worker.stop().await.expect("stopped");
}

/// Hides nothing from a person who looks twice.
#[derive(Debug)]
struct Turned;

impl PayloadCodec for Turned {
    fn name(&self) -> &'static str {
        "turned"
    }

    fn encode(&self, json: &[u8]) -> Vec<u8> {
        json.iter().rev().map(|byte| !byte).collect()
    }

    fn decode(&self, bytes: &[u8]) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
        Ok(self.encode(bytes))
    }
}

/// Two processes have the codec, and the third has none.
pub(crate) async fn a_payload_is_read_only_where_its_codec_is(stage: Stage) {
    let ([one, other], [stranger]) = stage.in_two_ways(|settings| settings.codec(Turned), |settings| settings).await;
    let worker = one.worker().workflow::<Waits>().start().await.expect("a worker");
    let waits = other.client().workflow::<Waits>("w");
    waits.start(()).await.expect("started");
    waits.signal(WaitsSignal::release("in secret".into())).await.expect("sent");
    assert_eq!(soon(waits.result()).await.expect("a result"), "in secret");
    let unread = soon(stranger.client().workflow::<Waits>("w").result()).await;
    assert!(unread.is_err(), "{unread:?}");
    let history = soon(stranger.client().instance("Waits", "w").history(0, 100)).await;
    let seen = format!("{history:?}");
    assert!(!seen.contains("secret"), "{seen}");
    worker.stop().await.expect("stopped");
}

pub(crate) async fn an_instance_whose_history_is_too_long_stops_until_more_is_allowed(stage: Stage) {
    let most = |events| {
        let mut limits = HistoryLimits::default();
        limits.most_events = events;
        limits
    };
    let (few, many) = (most(4), most(1_000));
    let ([small], [large]) =
        stage.in_two_ways(move |settings| settings.history_limits(few), move |s| s.history_limits(many)).await;
    let worker = small.worker().workflow::<Waits>().start().await.expect("a worker");
    let waits = large.client().workflow::<Waits>("w");
    waits.start(()).await.expect("started");
    for number in 0..9_u32 {
        soon(waits.signal(Signal::to_channel("unread", &number)).confirmed().into_future()).await.expect("recorded");
    }
    match soon(waits.result()).await {
        Err(WorkflowError::Stopped { reason }) => assert!(reason.contains("continue as new"), "{reason}"),
        other => panic!("{other:?}"),
    }
    worker.stop().await.expect("stopped");
    let worker = large.worker().workflow::<Waits>().start().await.expect("a worker");
    waits.signal(WaitsSignal::release("long".into())).await.expect("sent");
    assert_eq!(soon(waits.result_through_stops()).await.expect("a result"), "long");
    worker.stop().await.expect("stopped");
}

/// Two builds of one workflow: the code of the first one panics once its first timer has fired.
macro_rules! build {
    ($module:ident, $end:expr) => {
        mod $module {
            use super::*;

            #[derive(Debug, Default)]
            pub(super) struct Shaky;

            #[partitura::workflow(name = "Shaky")]
            impl Shaky {
                #[run]
                async fn run(cx: Cx<Self>) -> Result<String, Never> {
                    let _ = cx.sleep(millis(1)).await;
                    $end
                }
            }
        }
    };
}

build!(broken, panic!("a nut came loose"));
build!(mended, Ok("it holds".to_owned()));

pub(crate) async fn an_instance_whose_code_panics_stops_and_goes_on_once_it_is_mended(stage: Stage) {
    let [one, other] = stage.processes(|settings| settings).await;
    let worker = one.worker().workflow::<broken::Shaky>().build_id("1").start().await.expect("a worker");
    let shaky = one.client().workflow::<broken::Shaky>("s");
    shaky.start(()).await.expect("started");
    match soon(shaky.result()).await {
        Err(WorkflowError::Stopped { reason }) => assert!(reason.contains("a nut came loose"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(soon(shaky.describe()).await.expect("known").status, Status::Stopped { .. }));
    worker.stop().await.expect("stopped");
    let worker = other.worker().workflow::<mended::Shaky>().build_id("2").start().await.expect("a worker");
    let mended = other.client().workflow::<mended::Shaky>("s");
    assert_eq!(soon(mended.result_through_stops()).await.expect("a result"), "it holds");
    worker.stop().await.expect("stopped");
}

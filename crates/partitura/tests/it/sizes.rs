//! A broker that takes little: whatever is accepted takes effect and can be answered, at every size.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use partitura::contract::Limits;
use partitura::events::CloudEvent;
use partitura::history::EventKind;
use partitura::messaging::Messaging;
use partitura::{ClientError, Cx, Filter, Partitura, Retry, TaskContext, WorkflowError, millis, seconds};
use partitura_embedded::{Embedded, Options};

use crate::support::{Oops, TextService, TextStub, Texts, eventually, soon};
use crate::troubled::Virtual;

const LIMIT: usize = 4 << 10;

async fn on_a_small_broker() -> Partitura {
    let limits = Limits { payload: LIMIT, ..Limits::default() };
    let broker = Embedded::memory(Options::default().limits(limits)).expect("a broker in memory");
    Partitura::on(Arc::new(broker)).await.expect("connected")
}

/// The same in the time of a paused runtime, as that of the broker, too.
async fn on_a_small_broker_in_virtual_time() -> Partitura {
    let (limits, clock) = (Limits { payload: LIMIT, ..Limits::default() }, Virtual::new());
    let broker = Embedded::memory(Options::default().limits(limits).clock(clock.clone())).expect("a broker in memory");
    Partitura::on(Arc::new(broker)).clock(clock).ask_again(Duration::MAX).await.expect("connected")
}

/// Sizes around the limit, in the steps in which envelopes differ, and some far from it.
fn sizes() -> impl Iterator<Item = usize> {
    [0, 1, LIMIT / 2].into_iter().chain((LIMIT - 1_300..LIMIT + 100).step_by(23)).chain([3 * LIMIT])
}

/// Keeps what it is sent, and tells it.
#[derive(Debug, Default)]
struct Keeps {
    texts: Vec<String>,
}

#[partitura::workflow]
impl Keeps {
    #[run]
    async fn run(cx: Cx<Self>, _input: String) -> Result<(), Oops> {
        cx.until(|keeps: &Keeps| keeps.texts.iter().any(|text| text == "end")).await?;
        Ok(())
    }

    #[signal]
    fn keep(&mut self, text: String) {
        self.texts.push(text);
    }

    #[query]
    fn lengths(&self) -> Vec<usize> {
        self.texts.iter().map(String::len).collect()
    }

    #[query]
    fn all(&self) -> String {
        self.texts.concat()
    }
}

#[tokio::test(start_paused = true)]
async fn a_signal_of_any_size_is_refused_to_its_sender_or_takes_effect() {
    let partitura = on_a_small_broker().await;
    let worker = partitura.worker().workflow::<Keeps>().start().await.expect("a worker");
    let keeps = partitura.client().workflow::<Keeps>("k");
    keeps.start(String::new()).await.expect("started");
    let mut accepted = Vec::new();
    for size in sizes() {
        match keeps.signal(KeepsSignal::keep("\"".repeat(size / 2))).confirmed().await {
            Ok(()) => accepted.push(size / 2),
            Err(ClientError::TooLarge { bytes, limit, taken, .. }) => assert!(bytes > limit && taken == LIMIT),
            Err(error) => panic!("{size}: {error}"),
        }
    }
    assert!(accepted.len() > 2 && accepted.len() < sizes().count(), "{accepted:?}");
    assert_eq!(soon(keeps.query(KeepsQuery::lengths())).await.expect("an answer"), accepted);
    let error = soon(keeps.query(KeepsQuery::all())).await.expect_err("too large");
    assert!(matches!(error, ClientError::AnswerTooLarge { bytes, limit: LIMIT, .. } if bytes > LIMIT), "{error}");
    soon(keeps.describe()).await.expect("a description");
    let history = soon(keeps.history()).await.expect("a history");
    assert_eq!(history.len(), 1 + accepted.len());
    keeps.terminate("enough").confirmed().await.expect("terminated");
    assert!(matches!(soon(keeps.result()).await, Err(WorkflowError::Terminated(_))));
    worker.stop().await.expect("stopped");
}

#[tokio::test(start_paused = true)]
async fn an_input_of_any_size_is_refused_to_its_sender_or_starts_an_instance() {
    let partitura = on_a_small_broker().await;
    let worker = partitura.worker().workflow::<Keeps>().start().await.expect("a worker");
    let mut started = 0;
    for size in sizes() {
        let keeps = partitura.client().workflow::<Keeps>(format!("k{size}"));
        match keeps.start("x".repeat(size)).tag("tag").await {
            Ok(()) => started += 1,
            Err(ClientError::TooLarge { .. }) => continue,
            Err(error) => panic!("{size}: {error}"),
        }
        keeps.signal(KeepsSignal::keep("end".into())).confirmed().await.expect("taken");
        soon(keeps.result()).await.expect("a result");
        assert_eq!(soon(keeps.history()).await.expect("a history").len(), 3);
    }
    assert!(started > 2 && started < sizes().count(), "{started}");
    worker.stop().await.expect("stopped");
}

/// Returns a text of this size, which a step has made.
#[derive(Debug, Default)]
struct Makes;

#[partitura::workflow]
impl Makes {
    #[run]
    async fn run(cx: Cx<Self>, size: usize) -> Result<String, Oops> {
        // A value that is too large for a message fails the step.
        let made = cx.step("make", async move { Ok::<_, Oops>("x".repeat(size)) }).await;
        Ok(made.unwrap_or_else(|_| "x".repeat(size)))
    }
}

#[tokio::test(start_paused = true)]
async fn a_result_of_any_size_is_read_and_its_events_are_published_without_what_is_too_large() {
    let partitura = on_a_small_broker().await;
    let messaging = Messaging::over(partitura.broker().clone()).await.expect("messaging");
    let events = messaging.stream::<CloudEvent<EventKind>>("workflow.Makes.events").partitions(8).subscription("audit");
    let events = events.declare().await.expect("declared");
    let heard = Arc::<Mutex<Vec<CloudEvent<EventKind>>>>::default();
    let hear = {
        let heard = heard.clone();
        move |event: CloudEvent<EventKind>| {
            heard.lock().expect("heard").push(event);
            std::future::ready(Ok::<_, Oops>(()))
        }
    };
    let listening = tokio::spawn(events.subscribe("audit").process(hear).run_until(std::future::pending::<()>()));
    let worker = partitura.worker().workflow::<Makes>().start().await.expect("a worker");
    for size in sizes() {
        let makes = partitura.client().workflow::<Makes>(format!("m{size}"));
        makes.start(size).await.expect("started");
        assert_eq!(soon(makes.result()).await.expect("a result").len(), size);
        soon(makes.describe()).await.expect("a description");
        assert_eq!(soon(makes.history()).await.expect("a history").len(), 4);
    }
    let listed = soon(partitura.client().list::<Makes>(Filter::first(1_000))).await.expect("a list");
    assert_eq!(listed.len(), sizes().count());
    assert!(listed.iter().all(|summary| summary.end.is_none()));
    let listed = soon(partitura.client().list::<Makes>(Filter::first(1_000).with_ends())).await.expect("a list");
    assert_eq!(listed.iter().filter(|summary| summary.end.is_some()).count(), sizes().count());
    let published = || heard.lock().expect("heard").len();
    eventually(|| async { (published() >= 4 * sizes().count()).then_some(()) }).await;
    for event in heard.lock().expect("heard").iter() {
        if let EventKind::WorkflowCompleted { result } = &event.data {
            assert_eq!(event.truncated, result.as_json() == "null", "{event:?}");
        }
    }
    assert!(heard.lock().expect("heard").iter().any(|event| event.truncated));
    listening.abort();
    worker.stop().await.expect("stopped");
}

/// Calls a service with an argument of this size.
#[derive(Debug, Default)]
struct Calls;

#[partitura::workflow]
impl Calls {
    #[run]
    async fn run(cx: Cx<Self>, size: usize) -> Result<bool, Oops> {
        Ok(cx.service::<TextStub>().dot("x".repeat(size)).await.is_ok())
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_of_any_size_runs_or_fails_with_the_reason() {
    let partitura = on_a_small_broker().await;
    let worker = partitura.worker().service(TextService(Texts::default())).workflow::<Calls>();
    let worker = worker.start().await.expect("a worker");
    let mut ran = 0;
    for size in sizes() {
        let calls = partitura.client().workflow::<Calls>(format!("c{size}"));
        calls.start(size).await.expect("started");
        ran += usize::from(soon(calls.result()).await.expect("a result"));
        soon(calls.history()).await.expect("a history");
    }
    assert!(ran > 2 && ran < sizes().count(), "{ran}");
    worker.stop().await.expect("stopped");
}

#[tokio::test(start_paused = true)]
async fn long_lists_are_read_page_by_page() {
    let partitura = on_a_small_broker().await;
    let worker = partitura.worker().workflow::<Keeps>().start().await.expect("a worker");
    let client = partitura.client();
    for i in 0..50 {
        client.workflow::<Keeps>(format!("{i:02}")).start(String::new()).tag("t".repeat(300)).await.expect("started");
        soon(client.workflow::<Keeps>(format!("{i:02}")).describe()).await.expect("known");
    }
    let listed = |limit| client.list::<Keeps>(Filter::first(limit));
    let all = soon(listed(1_000)).await.expect("a list");
    assert_eq!(all.iter().map(|summary| summary.id.clone()).collect::<Vec<_>>(), {
        (0..50).map(|i| format!("{i:02}")).collect::<Vec<_>>()
    });
    assert_eq!(soon(listed(33)).await.expect("a list").len(), 33);
    worker.stop().await.expect("stopped");
}

#[partitura::service]
trait Porter {
    /// Says how far it is with a text of a size, and fails once, with another.
    #[task(retry = Retry::fixed(millis(10)).max_attempts(3), retry_if = |_| true, heartbeat_timeout = seconds(20))]
    async fn haul(&self, load: String, progress: usize, error: usize) -> Result<usize, Oops>;
}

struct Weak;

impl Porter for Weak {
    async fn haul(&self, load: String, progress: usize, error: usize) -> Result<usize, Oops> {
        let task = TaskContext::current().expect("a task");
        if task.attempt() == 1 {
            // Progress that is too large is refused to the method, which goes on without it.
            let refused = task.heartbeat(&"p".repeat(progress)).is_err();
            assert!(!refused || progress > LIMIT / 2, "{progress}");
            // Longer than a heartbeat waits.
            tokio::time::sleep(seconds(8)).await;
            return Err(Oops::No("e".repeat(error)));
        }
        let told: Option<String> = task.last_heartbeat().expect("text");
        // Progress that could not be sent is not kept; all else is.
        assert!(told.is_some_and(|told| told.len() == progress) || progress > LIMIT / 2, "{progress}");
        Ok(load.len())
    }
}

/// Has a load of this size hauled.
#[derive(Debug, Default)]
struct Moves;

#[partitura::workflow]
impl Moves {
    #[run]
    async fn run(cx: Cx<Self>, (size, progress, error): (usize, usize, usize)) -> Result<Result<usize, String>, Oops> {
        let hauled = cx.service::<PorterStub>().haul("x".repeat(size), progress, error).await;
        Ok(hauled.map_err(|error| error.to_string()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_of_any_size_is_tried_again_with_progress_and_errors_of_any_size() {
    let partitura = on_a_small_broker().await;
    let worker = partitura.worker().service(PorterService(Weak)).workflow::<Moves>().start().await.expect("a worker");
    let mut hauled = 0;
    for size in sizes() {
        for (progress, error) in [(10, 10), (1_000, 10), (10, 1_000), (LIMIT - 300, 5_000), (3 * LIMIT, 10)] {
            let moves = partitura.client().workflow::<Moves>(format!("m{size}-{progress}-{error}"));
            moves.start((size, progress, error)).await.expect("started");
            match soon(moves.result()).await.expect("a result") {
                Ok(length) => {
                    assert_eq!(length, size);
                    hauled += 1;
                }
                Err(problem) => assert!(problem.contains("are allowed"), "{size} {progress} {error}: {problem}"),
            }
            let summary = soon(moves.describe()).await.expect("described");
            assert!(summary.status.is_closed(), "{summary:?}");
        }
    }
    assert!(hauled > 10, "{hauled}");
    worker.stop().await.expect("stopped");
}

/// Says a text of this size wherever one is kept.
#[derive(Debug, Default)]
struct Says;

#[partitura::workflow]
impl Says {
    #[run]
    async fn run(cx: Cx<Self>, (what, size): (String, usize)) -> Result<(), Oops> {
        let text = "x".repeat(size);
        match what.as_str() {
            "attribute" => cx.set_attribute("text", text),
            "name of an attribute" => cx.set_attribute(text, true),
            "change" => drop(cx.version(&text, 1..=2)),
            "step" => {
                let code = async {
                    tokio::time::sleep(seconds(2)).await;
                    Ok::<_, Oops>(())
                };
                cx.step(text, code).await?;
            }
            _ => drop(partitura::select! {
                number = cx.channel::<u32>(text).recv() => number.is_ok(),
                slept = cx.sleep(seconds(2)) => slept.is_ok(),
            }),
        }
        Ok(cx.sleep(seconds(2)).await?)
    }
}

#[tokio::test(start_paused = true)]
async fn a_text_of_any_size_in_a_history_is_published_cut_and_keeps_no_answer_back() {
    let partitura = on_a_small_broker_in_virtual_time().await;
    let (client, events) =
        (partitura.client(), partitura.events().workflow::<Says>("audit").await.expect("subscribed"));
    let cut = Arc::<AtomicU32>::default();
    let hear = {
        let cut = cut.clone();
        move |event: CloudEvent<EventKind>| {
            cut.fetch_add(u32::from(event.truncated), Ordering::SeqCst);
            std::future::ready(Ok::<_, Oops>(()))
        }
    };
    let listening = tokio::spawn(events.process(hear).run_until(std::future::pending::<()>()));
    let worker = partitura.worker().workflow::<Says>().start().await.expect("a worker");
    for what in ["attribute", "name of an attribute", "change", "step", "channel"] {
        for size in [LIMIT - 300, LIMIT, 3 * LIMIT] {
            let says = client.workflow::<Says>(format!("{what} {size}"));
            says.start((what.to_owned(), size)).await.expect("started");
            tokio::time::sleep(seconds(1)).await;
            let described = soon(says.describe()).await.unwrap_or_else(|error| panic!("{what}, {size}: {error}"));
            assert_eq!(described.status, partitura::Status::Running, "{what}, {size}");
            assert_eq!(described.waits_for, if what == "channel" { 2 } else { 1 }, "{what}, {size}");
            soon(says.result()).await.unwrap_or_else(|error| panic!("{what}, {size}: {error}"));
            soon(says.history()).await.expect("a history");
        }
    }
    assert_eq!(soon(client.list::<Says>(Filter::first(100))).await.expect("a list").len(), 15);
    eventually(|| async { (cut.load(Ordering::SeqCst) >= 8).then_some(()) }).await;
    listening.abort();
    worker.stop().await.expect("stopped");
}

#[partitura::service]
trait Beating {
    /// Beats for ten seconds with details of this size, and says how often that was taken.
    async fn beat(&self, size: usize) -> u32;
}

/// Counts its calls.
#[derive(Clone, Default)]
struct Beats(Arc<AtomicU32>);

impl Beating for Beats {
    async fn beat(&self, size: usize) -> u32 {
        self.0.fetch_add(1, Ordering::SeqCst);
        let task = TaskContext::current().expect("a task");
        let mut taken = 0;
        for _ in 0..10 {
            match task.heartbeat(&"x".repeat(size)) {
                Ok(()) => taken += 1,
                Err(_) => task.heartbeat(&()).expect("it is small"),
            }
            tokio::time::sleep(seconds(1)).await;
        }
        taken
    }
}

#[derive(Debug, Default)]
struct Beaten;

#[partitura::workflow]
impl Beaten {
    #[run]
    async fn run(cx: Cx<Self>, size: usize) -> Result<u32, Oops> {
        Ok(cx.service::<BeatingStub>().beat(size).heartbeat_timeout(seconds(3)).await?)
    }
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_of_any_size_is_refused_to_its_sender_or_counts() {
    let (partitura, beats) = (on_a_small_broker_in_virtual_time().await, Beats::default());
    let worker = partitura.worker().service(BeatingService(beats.clone())).workflow::<Beaten>();
    let worker = worker.start().await.expect("a worker");
    let (mut taken, mut called) = (Vec::new(), 0);
    for size in sizes().step_by(5) {
        let beaten = partitura.client().workflow::<Beaten>(format!("{size}"));
        beaten.start(size).await.expect("started");
        taken.push(soon(beaten.result()).await.expect("a result"));
        called += 1;
        assert_eq!(beats.0.load(Ordering::SeqCst), called, "{size}: it was called again");
    }
    assert!(taken.contains(&10) && taken.contains(&0), "{taken:?}");
    worker.stop().await.expect("stopped");
}

//! Updates: what their senders are told, and what is applied once.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use partitura::contract::Limits;
use partitura::history::EventKind;
use partitura::{
    Cancelled, ClientError, Cx, Never, Partitura, StartPolicy, Status, Update, UpdateError, Workflow, seconds,
};
use partitura_embedded::{Embedded, Options};

use crate::carts::{Cart, CartError, CartUpdate, add};
use crate::in_memory;
use crate::support::{eventually, soon};

/// How many updates the history of the latest run has.
async fn recorded<W: Workflow>(handle: &partitura::WorkflowHandle<W>) -> usize {
    let history = soon(handle.history()).await.expect("a history");
    history.iter().filter(|event| matches!(event.kind, EventKind::UpdateReceived { .. })).count()
}

#[tokio::test(start_paused = true)]
async fn an_update_gives_what_its_handler_returns_and_its_validator_leaves_no_trace() {
    let partitura = in_memory().await;
    let worker = partitura.worker().workflow::<Cart>().start().await.expect("a worker");
    let cart = partitura.client().workflow::<Cart>("c");
    let early = soon(cart.update(add("nuts")).into_future()).await;
    assert!(matches!(early, Err(UpdateError::Client(ClientError::NotFound { .. }))), "{early:?}");
    cart.start(()).await.expect("started");
    for (number, item) in (1..).zip(["nuts", "figs", "rice"]) {
        assert_eq!(soon(cart.update(add(item)).into_future()).await.expect("added"), number);
    }
    let nameless = soon(cart.update(add("")).into_future()).await;
    assert!(matches!(nameless, Err(UpdateError::Rejected(CartError::Nameless))), "{nameless:?}");
    assert_eq!(recorded(&cart).await, 3);
    let full = soon(cart.update(add("tea")).into_future()).await;
    assert!(matches!(full, Err(UpdateError::Failed(CartError::Full(3)))), "{full:?}");
    assert_eq!(recorded(&cart).await, 4);
    assert!(soon(cart.update(CartUpdate::pay()).into_future()).await.expect("paid"));
    assert_eq!(soon(cart.result()).await.expect("a result"), "nuts figs rice");
    worker.stop().await.expect("stopped");
}

#[tokio::test(start_paused = true)]
async fn an_update_gives_one_result_under_its_id_in_every_worker_and_after_the_end() {
    let partitura = in_memory().await;
    let client = partitura.client();
    let cart = client.workflow::<Cart>("c");
    let mut worker = partitura.worker().workflow::<Cart>().start().await.expect("a worker");
    cart.start(()).await.expect("started");
    // A caller that gives up, and sends it again.
    let _ = tokio::time::timeout(seconds(0), cart.update(add("nuts")).id("first").into_future()).await;
    for _ in 0..3 {
        assert_eq!(cart.update(add("figs")).id("second").await.expect("added"), 2);
        assert_eq!(cart.update(add("nuts")).id("first").await.expect("added"), 1);
        worker.stop().await.expect("stopped");
        worker = partitura.worker().workflow::<Cart>().start().await.expect("a worker");
    }
    assert_eq!(recorded(&cart).await, 2);
    let run = cart.describe().await.expect("known").run;
    assert!(cart.update(CartUpdate::pay()).id("pay").run(run.clone()).await.expect("paid"));
    assert_eq!(soon(cart.result()).await.expect("a result"), "nuts figs");
    assert!(cart.update(CartUpdate::pay()).id("pay").await.expect("it was paid then"));
    assert_eq!(cart.update(add("figs")).id("second").await.expect("added then"), 2);
    let late = cart.update(add("late")).await;
    assert!(matches!(late, Err(UpdateError::Client(ClientError::Ended { .. }))), "{late:?}");
    let other = cart.update(add("other")).run("another").await;
    assert!(matches!(other, Err(UpdateError::Client(ClientError::AnotherRun { run: present, .. })) if present == run));
    let unusable = cart.update(add("figs")).id("").await;
    assert!(matches!(unusable, Err(UpdateError::Client(ClientError::InvalidId(_)))), "{unusable:?}");
    worker.stop().await.expect("stopped");
}

#[tokio::test(start_paused = true)]
async fn an_update_waits_for_a_worker_up_to_its_limit_and_takes_effect_all_the_same() {
    let partitura = in_memory().await;
    let cart = partitura.client().workflow::<Cart>("c");
    cart.start(()).await.expect("started");
    let nobody = cart.update(add("nuts")).id("first").await;
    assert!(matches!(nobody, Err(UpdateError::Client(ClientError::NoAnswer { .. }))), "{nobody:?}");
    let worker = partitura.worker().workflow::<Cart>().start().await.expect("a worker");
    assert_eq!(cart.update(add("figs")).await.expect("added"), 2);
    assert_eq!(cart.update(add("nuts")).id("first").await.expect("added then"), 1);
    worker.stop().await.expect("stopped");
}

#[tokio::test(start_paused = true)]
async fn a_start_with_an_update_gives_its_result_whether_it_starts_or_takes() {
    let partitura = in_memory().await;
    let worker = partitura.worker().workflow::<Cart>().start().await.expect("a worker");
    let cart = partitura.client().workflow::<Cart>("c");
    assert_eq!(cart.start(()).with_update(add("nuts")).id("first").await.expect("added"), 1);
    assert_eq!(cart.start(()).with_update(add("figs")).await.expect("added"), 2);
    assert_eq!(cart.start(()).with_update(add("nuts")).id("first").await.expect("added then"), 1);
    let nameless = cart.start(()).with_update(add("")).await;
    assert!(matches!(nameless, Err(UpdateError::Rejected(CartError::Nameless))), "{nameless:?}");
    let taken = cart.start(()).policy(StartPolicy::Reject).with_update(add("rice")).await;
    assert!(matches!(taken, Err(UpdateError::Client(ClientError::AlreadyExists { .. }))), "{taken:?}");
    // An update that ends in the same turn is answered.
    assert!(cart.start(()).with_update(CartUpdate::pay()).id("pay").await.expect("paid"));
    assert_eq!(soon(cart.result()).await.expect("a result"), "nuts figs");
    let ended = cart.start(()).with_update(add("late")).await;
    assert!(matches!(ended, Err(UpdateError::Client(ClientError::Ended { .. }))), "{ended:?}");
    let anew = cart.start(()).policy(StartPolicy::RestartEnded).with_update(add("anew")).await;
    assert_eq!(anew.expect("added"), 1);
    worker.stop().await.expect("stopped");
}

/// Counts, and begins a new run after each number but the last.
#[derive(Debug, Default)]
struct Steps {
    last: u32,
    total: u32,
}

#[partitura::workflow]
impl Steps {
    #[run]
    async fn run(cx: Cx<Self>, total: u32) -> Result<u32, Cancelled> {
        cx.state(|steps| steps.total = total);
        cx.until(|steps: &Steps| steps.last > 0).await?;
        let total = cx.state(|steps| steps.total);
        if total >= 10 { Ok(total) } else { cx.continue_as_new(total).await }
    }

    #[update]
    fn step(&mut self, number: u32) -> u32 {
        self.last = number;
        self.total += number;
        self.total
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_continues_as_new_knows_the_updates_of_those_before() {
    let partitura = in_memory().await;
    let worker = partitura.worker().workflow::<Steps>().start().await.expect("a worker");
    let steps = partitura.client().workflow::<Steps>("s");
    steps.start(0).await.expect("started");
    let step = async |number, id: &str| {
        soon(steps.update(StepsUpdate::step(number)).id(id).into_future()).await.expect("applied")
    };
    assert_eq!((step(1, "a").await, step(2, "b").await, step(3, "c").await), (1, 3, 6));
    assert_eq!((step(9, "a").await, step(9, "b").await, step(9, "c").await), (1, 3, 6));
    assert_eq!(step(4, "d").await, 10);
    assert_eq!(soon(steps.result()).await.expect("a result"), 10);
    assert_eq!((step(9, "d").await, step(9, "a").await), (10, 1), "also after the end");
    worker.stop().await.expect("stopped");
}

static IS_REPAIRED: AtomicBool = AtomicBool::new(false);

/// Panics at an update, and in its code once it is shaken.
#[derive(Debug, Default)]
struct Fragile {
    shaken: bool,
    broken: bool,
}

#[partitura::workflow]
impl Fragile {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<bool, Cancelled> {
        cx.until(|fragile: &Fragile| fragile.shaken).await?;
        assert!(IS_REPAIRED.load(Ordering::SeqCst), "its code is broken");
        cx.until(|fragile: &Fragile| fragile.broken).await?;
        Ok(true)
    }

    #[signal]
    fn shake(&mut self) {
        self.shaken = true;
    }

    #[update]
    fn knock(&mut self) {
        panic!("knocked over");
    }

    #[update]
    fn shatter(&mut self) {
        self.broken = true;
    }
}

#[tokio::test(start_paused = true)]
async fn an_update_of_an_instance_that_cannot_go_on_is_not_applied_and_says_so() {
    let partitura = in_memory().await;
    let worker = partitura.worker().workflow::<Fragile>().start().await.expect("a worker");
    let fragile = partitura.client().workflow::<Fragile>("f");
    fragile.start(()).await.expect("started");
    let knocked = fragile.update(FragileUpdate::knock()).await;
    assert!(
        matches!(&knocked, Err(UpdateError::Client(ClientError::Refused(text))) if text.contains("knocked over")),
        "{knocked:?}"
    );
    assert_eq!(fragile.describe().await.expect("known").status, Status::Running);
    fragile.signal(FragileSignal::shake()).await.expect("sent");
    eventually(|| async { fragile.describe().await.ok().filter(|summary| summary.status.reason().is_some()) }).await;
    let stopped = fragile.update(FragileUpdate::shatter()).id("s").await;
    assert!(matches!(&stopped, Err(UpdateError::Stopped { reason }) if reason.contains("broken")), "{stopped:?}");
    assert_eq!(recorded(&fragile).await, 0);
    IS_REPAIRED.store(true, Ordering::SeqCst);
    fragile.resume().await.expect("sent");
    fragile.update(FragileUpdate::shatter()).id("s").await.expect("applied");
    assert!(soon(fragile.result()).await.expect("a result"));
    worker.stop().await.expect("stopped");
}

#[tokio::test(start_paused = true)]
async fn an_update_that_the_build_does_not_know_or_cannot_read_is_refused_at_once() {
    let partitura = in_memory().await;
    let worker = partitura.worker().workflow::<Cart>().build_id("b-1").start().await.expect("a worker");
    let cart = partitura.client().workflow::<Cart>("c");
    cart.start(()).await.expect("started");
    let unknown = Update::<Cart, (), Never>::new("remove", Ok(partitura::Payload::null()));
    let unreadable = Update::<Cart, (), Never>::new("add", Ok(partitura::Payload::from_json("7").expect("JSON")));
    for (update, expected) in [(unknown, "no update `remove`; it has [\"add\", \"pay\"]"), (unreadable, "decoded")] {
        match cart.update(update).await {
            Err(UpdateError::Client(ClientError::Refused(text))) => {
                assert!(text.contains(expected) && text.ends_with("this is build b-1"), "{text}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(recorded(&cart).await, 0);
    worker.stop().await.expect("stopped");
}

/// Repeats what it is sent.
#[derive(Debug, Default)]
struct Echo {
    last: String,
}

#[partitura::workflow]
impl Echo {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(), Cancelled> {
        cx.until(|echo: &Echo| echo.last == "end").await
    }

    #[update]
    fn say(&mut self, text: String, times: usize) -> String {
        self.last = text.repeat(times);
        self.last.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn an_update_of_any_size_is_refused_to_its_sender_or_answered() {
    const LIMIT: usize = 4 << 10;
    let limits = Limits { payload: LIMIT, ..Limits::default() };
    let broker = Embedded::memory(Options::default().limits(limits)).expect("a broker in memory");
    let partitura = Partitura::on(Arc::new(broker)).cache(NonZeroUsize::MIN).await.expect("connected");
    let worker = partitura.worker().workflow::<Echo>().start().await.expect("a worker");
    let echo = partitura.client().workflow::<Echo>("e");
    echo.start(()).await.expect("started");
    let say = |size, times| soon(echo.update(EchoUpdate::say("x".repeat(size), times)).into_future());
    for size in [0, 1, LIMIT / 2].into_iter().chain((LIMIT - 1_300..LIMIT + 100).step_by(100)) {
        match say(size, 1).await {
            Ok(said) => assert_eq!(said.len(), size),
            Err(UpdateError::Client(ClientError::TooLarge { .. })) => assert!(size > LIMIT / 2, "{size}"),
            other => panic!("{size}: {other:?}"),
        }
    }
    // A result that is larger than a message comes from the history.
    assert_eq!(say(LIMIT / 2, 5).await.expect("said").len(), LIMIT / 2 * 5);
    worker.stop().await.expect("stopped");
}

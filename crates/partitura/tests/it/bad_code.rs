//! Code that panics or does not come back harms its own instance alone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use partitura::{ClientError, Cx, Waiting, Workflow, WorkflowError, millis};

use crate::in_memory;
use crate::support::{Oops, eventually, soon};

/// Cannot bear one of its signals, and ends by another.
#[derive(Debug, Default)]
struct Touchy {
    touched: u32,
}

#[partitura::workflow]
impl Touchy {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<u32, Oops> {
        cx.until(|touchy: &Touchy| touchy.touched > 1).await?;
        Ok(cx.state(|touchy| touchy.touched))
    }

    #[signal]
    fn touch(&mut self, gently: bool) {
        self.touched += 1;
        if !gently {
            // Without the noise of the hook.
            std::panic::resume_unwind(Box::new("too rough"));
        }
    }

    #[query]
    fn touched(&self) -> u32 {
        self.touched
    }
}

#[tokio::test]
async fn a_signal_whose_handler_panics_is_refused_and_the_instance_goes_on() {
    let partitura = in_memory().await;
    let worker = partitura.worker().workflow::<Touchy>().start().await.expect("a worker");
    let touchy = partitura.client().workflow::<Touchy>("t");
    touchy.start(()).await.expect("started");
    touchy.signal(TouchySignal::touch(true)).await.expect("sent");
    let refused = soon(async { touchy.signal(TouchySignal::touch(false)).confirmed().await }).await;
    let Err(ClientError::Refused(reason)) = refused else { panic!("{refused:?}") };
    assert!(reason.contains("touch") && reason.contains("too rough"), "{reason}");
    touchy.signal(TouchySignal::touch(false)).await.expect("sent, and a dead letter");
    // The changes of the handlers before they panicked are undone.
    assert_eq!(soon(touchy.query(TouchyQuery::touched())).await.expect("an answer"), 1);
    touchy.cancel("it is enough").await.expect("sent");
    assert!(matches!(soon(touchy.result()).await, Err(WorkflowError::Cancelled { .. })));
    worker.stop().await.expect("stopped");
}

static LET_GO: AtomicBool = AtomicBool::new(false);

/// Blocks its thread until it is let go; no code should.
#[derive(Debug, Default)]
struct Blocking;

#[partitura::workflow]
impl Blocking {
    #[run]
    async fn run(_cx: Cx<Self>) -> Result<(), Oops> {
        while !LET_GO.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

/// Waits for two timers.
#[derive(Debug, Default)]
struct Sound;

#[partitura::workflow]
impl Sound {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(), Oops> {
        cx.sleep(millis(10)).await?;
        Ok(cx.sleep(millis(10)).await?)
    }
}

/// Checks that others go on while six instances of `W` keep their threads until they are let go.
async fn others_go_on_beside<W: Workflow<Input = (), Output = (), Error = Oops>>(let_go: &AtomicBool) {
    let partitura = in_memory().await;
    let worker = partitura.worker().workflow::<W>().workflow::<Sound>().start().await.expect("a worker");
    let client = partitura.client();
    let blocking: Vec<_> = (0..6).map(|i| client.workflow::<W>(format!("b{i}"))).collect();
    for blocking in &blocking {
        blocking.start(()).await.expect("started");
    }
    for i in 0..20 {
        let sound = client.workflow::<Sound>(format!("s{i}"));
        sound.start(()).await.expect("started");
        soon(sound.result()).await.expect("a result");
    }
    let_go.store(true, Ordering::Relaxed);
    for blocking in &blocking {
        soon(blocking.result()).await.expect("a result");
    }
    worker.stop().await.expect("stopped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn code_that_does_not_come_back_freezes_no_other_instance() {
    others_go_on_beside::<Blocking>(&LET_GO).await;
}

static UNCLOGGED: AtomicBool = AtomicBool::new(false);

/// Blocks its thread in one of its signals.
#[derive(Debug, Default)]
struct Clogged {
    done: bool,
}

#[partitura::workflow]
impl Clogged {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(), Oops> {
        Ok(cx.until(|clogged: &Clogged| clogged.done).await?)
    }

    #[signal]
    fn block(&mut self) {
        while !UNCLOGGED.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.done = true;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_description_names_the_code_that_does_not_come_back() {
    let partitura = in_memory().await;
    let worker = partitura.worker().workflow::<Clogged>().start().await.expect("a worker");
    let clogged = partitura.client().workflow::<Clogged>("c");
    clogged.start(()).await.expect("started");
    assert_eq!(soon(clogged.describe()).await.expect("known").held_up, None);
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis();
    clogged.signal(CloggedSignal::block()).await.expect("sent");
    let held_up = soon(async {
        loop {
            // One that is asked too early waits with all the others.
            let asked = tokio::time::timeout(Duration::from_secs(2), clogged.describe()).await;
            if let Ok(Ok(described)) = asked {
                return described.held_up.expect("it waits");
            }
        }
    })
    .await;
    assert_eq!(held_up.code, "signal block");
    assert!(u128::from(held_up.since) + 1_000 >= since, "{held_up:?} {since}");
    UNCLOGGED.store(true, Ordering::Relaxed);
    soon(clogged.result()).await.expect("a result");
    worker.stop().await.expect("stopped");
}

static RETURNED: AtomicBool = AtomicBool::new(false);

#[partitura::service]
trait Grind {
    /// Blocks its thread until all may return; no method should.
    async fn grind(&self) -> u32;

    /// Does not block.
    async fn wait(&self) -> u32;
}

struct Mill;

impl Grind for Mill {
    async fn grind(&self) -> u32 {
        tokio::task::yield_now().await;
        while !RETURNED.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
        }
        1
    }

    async fn wait(&self) -> u32 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        2
    }
}

/// Has something ground, or waits.
#[derive(Debug, Default)]
struct Grinds;

#[partitura::workflow]
impl Grinds {
    #[run]
    async fn run(cx: Cx<Self>, blocks: bool) -> Result<u32, Oops> {
        let grind = cx.service::<GrindStub>();
        Ok(if blocks { grind.grind().await? } else { grind.wait().await? })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_method_that_does_not_come_back_freezes_nothing_and_is_named_by_descriptions() {
    let partitura = in_memory().await;
    let worker = partitura.worker().service(GrindService(Mill)).workflow::<Grinds>().start().await.expect("a worker");
    let client = partitura.client();
    let blocking: Vec<_> = (0..6).map(|i| client.workflow::<Grinds>(format!("b{i}"))).collect();
    for blocking in &blocking {
        blocking.start(true).await.expect("started");
    }
    for i in 0..20 {
        let sound = client.workflow::<Grinds>(format!("s{i}"));
        sound.start(false).await.expect("started");
        assert_eq!(soon(sound.result()).await.expect("a result"), 2);
    }
    for blocking in &blocking {
        let held_up = eventually(|| async {
            let described = blocking.describe().await.expect("known");
            assert_eq!(described.held_up, None, "its turns go on");
            described.waiting.into_iter().find_map(|waiting| match waiting {
                Waiting::Task { method, attempt: Some(1), held_up, .. } if method == "grind" => held_up,
                _ => None,
            })
        });
        held_up.await;
    }
    RETURNED.store(true, Ordering::Relaxed);
    for blocking in &blocking {
        assert_eq!(soon(blocking.result()).await.expect("a result"), 1);
    }
    worker.stop().await.expect("stopped");
}

static STEPPED: AtomicBool = AtomicBool::new(false);

/// Blocks a thread in a step.
#[derive(Debug, Default)]
struct Treads;

#[partitura::workflow]
impl Treads {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(), Oops> {
        let tread = async {
            while !STEPPED.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok::<_, Oops>(())
        };
        Ok(cx.step("tread", tread).await?)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_does_not_come_back_freezes_nothing() {
    others_go_on_beside::<Treads>(&STEPPED).await;
}

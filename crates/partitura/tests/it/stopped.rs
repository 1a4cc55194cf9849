//! An instance whose code cannot go on: what arrives meanwhile, and what those who wait are told.

use std::sync::atomic::{AtomicBool, Ordering};

use partitura::history::EventKind;
use partitura::testing::TestEnv;
use partitura::{Cx, Signal, Status, WorkflowError, WorkflowHandle, seconds};

use crate::in_memory;
use crate::support::{Oops, eventually, soon};

/// A workflow that stops after a second unless its code is repaired, and ends once it is released. Each test has one of its own.
macro_rules! flawed {
    ($name:ident, $repaired:ident) => {
        static $repaired: AtomicBool = AtomicBool::new(false);

        #[derive(Debug, Default)]
        struct $name {
            released: Option<String>,
        }

        #[partitura::workflow]
        impl $name {
            #[run]
            async fn run(cx: Cx<Self>) -> Result<String, Oops> {
                cx.sleep(seconds(1)).await?;
                assert!($repaired.load(Ordering::SeqCst), "not repaired yet");
                cx.until(|flawed: &Self| flawed.released.is_some()).await?;
                Ok(cx.state(|flawed| flawed.released.take()).unwrap_or_default())
            }

            #[signal]
            fn release(&mut self, with: String) {
                self.released = Some(with);
            }
        }
    };
}

/// Waits until the instance is stopped, and returns the reason.
async fn stops<W: partitura::Workflow>(handle: &WorkflowHandle<W>) -> String {
    eventually(|| async {
        match &handle.describe().await.ok()?.status {
            Status::Stopped { reason } => Some(reason.clone()),
            _ => None,
        }
    })
    .await
}

flawed!(Picky, PICKY_IS_REPAIRED);

#[tokio::test(start_paused = true)]
async fn a_signal_to_a_stopped_instance_that_cannot_be_read_is_refused_when_its_code_runs_again() {
    let partitura = in_memory().await;
    let worker = partitura.worker().workflow::<Picky>().start().await.expect("a worker");
    let picky = partitura.client().workflow::<Picky>("p");
    picky.start(()).await.expect("started");
    stops(&picky).await;
    picky.signal(Signal::to_channel("release", &[1, 2, 3])).await.expect("sent");
    picky.signal(PickySignal::release("fits".into())).await.expect("sent");
    PICKY_IS_REPAIRED.store(true, Ordering::SeqCst);
    picky.resume().await.expect("sent");
    assert_eq!(soon(picky.result()).await.expect("a result"), "fits");
    let history = soon(picky.history()).await.expect("a history");
    let refused = history.iter().find_map(|event| match &event.kind {
        EventKind::WorkflowResumed { refused } => Some(refused.len()),
        _ => None,
    });
    assert_eq!(refused, Some(1), "{history:?}");
    worker.stop().await.expect("stopped");
}

flawed!(Awaited, AWAITED_IS_REPAIRED);

#[tokio::test]
async fn those_who_wait_for_a_stopped_instance_are_told_why_unless_they_wait_on() {
    let env = TestEnv::new().workflow::<Awaited>();
    let awaited = env.start::<Awaited>("a", ()).await.unwatched().clone();
    let patient = tokio::spawn({
        let awaited = awaited.clone();
        async move { awaited.result_through_stops().await }
    });
    match soon(awaited.result()).await {
        Err(WorkflowError::Stopped { reason }) => assert!(reason.contains("not repaired yet"), "{reason}"),
        other => panic!("{other:?}"),
    }
    awaited.signal(AwaitedSignal::release("late".into())).confirmed().await.expect("kept");
    AWAITED_IS_REPAIRED.store(true, Ordering::SeqCst);
    awaited.resume().await.expect("sent");
    assert_eq!(soon(patient).await.expect("no panic").expect("a result"), "late");
    assert_eq!(soon(awaited.result()).await.expect("a result"), "late");
}

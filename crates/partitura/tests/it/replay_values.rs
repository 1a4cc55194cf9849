//! Code that asks for other values when it is replayed.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use partitura::{Cx, Never, Partitura, ReplayValues, Status};
use partitura_embedded::{Embedded, Options};

use crate::support::{TextService, TextStub, Texts, eventually, soon};

static RUNS: AtomicU32 = AtomicU32::new(0);

/// Counts its runs, which a workflow must not do.
#[derive(Debug, Default)]
struct Counts {
    go: bool,
}

#[partitura::workflow]
impl Counts {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<String, Never> {
        let run = RUNS.fetch_add(1, Ordering::SeqCst);
        let dotted = cx.service::<TextStub>().dot(run.to_string()).await;
        let _ = cx.until(|counts: &Counts| counts.go).await;
        Ok(dotted.unwrap_or_default())
    }

    #[signal]
    fn go(&mut self) {
        self.go = true;
    }

    #[query]
    fn is_there(&self) -> bool {
        true
    }
}

/// Where an instance stands that is replayed with other values, once somebody has signalled it.
async fn replayed(values: ReplayValues) -> Status {
    let broker = Arc::new(Embedded::memory(Options::default()).expect("a broker in memory"));
    let partitura = Partitura::on(broker).cache(NonZeroUsize::MIN).replay_values(values).await.expect("an engine");
    let worker = partitura.worker().service(TextService(Texts::default())).workflow::<Counts>();
    let worker = worker.start().await.expect("a worker");
    let client = partitura.client();
    let counts = client.workflow::<Counts>("c-1");
    soon(counts.start(()).into_future()).await.expect("started");
    // Another instance takes its place in memory.
    let other = client.workflow::<Counts>("c-2");
    soon(other.start(()).into_future()).await.expect("started");
    soon(other.query(CountsQuery::is_there())).await.expect("an answer");
    soon(counts.signal(CountsSignal::go()).into_future()).await.expect("sent");
    let ended = eventually(|| async {
        let status = counts.describe().await.ok()?.status;
        (status != Status::Running).then_some(status)
    })
    .await;
    worker.stop().await.expect("an orderly end");
    ended
}

#[tokio::test]
async fn other_values_are_warned_about_or_stop_the_instance() {
    assert_eq!(replayed(ReplayValues::Warn).await, Status::Completed);
    match replayed(ReplayValues::Stop).await {
        Status::Stopped { reason } => {
            assert!(reason.contains("history: TaskScheduled Text.dot {\"text\":"), "{reason}");
            assert!(reason.contains("code: TaskScheduled Text.dot {\"text\":"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}

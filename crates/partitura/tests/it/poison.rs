//! A task, and a turn, that end the process: in real processes, over a file of the embedded broker.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use partitura::{Cx, Destination, Partitura, Status, TaskError};
use partitura_embedded::{Embedded, Options};

use crate::support::{Oops, eventually, soon};

/// Names the directory of the broker's file to a process that this test starts.
const DIRECTORY: &str = "PARTITURA_TEST_POISON";
/// How often a process may end here until everything is done.
const MOST: usize = 12;

#[partitura::service]
trait Risks {
    /// Ends the process if it is told to.
    async fn take(&self, fatal: bool) -> Result<String, Oops>;
}

struct Taken;

impl Risks for Taken {
    async fn take(&self, fatal: bool) -> Result<String, Oops> {
        if fatal {
            std::process::abort();
        }
        Ok("taken".into())
    }
}

#[derive(Debug, Default)]
struct TakesRisks;

#[partitura::workflow]
impl TakesRisks {
    #[run]
    async fn run(cx: Cx<Self>, (fatal_task, fatal_turn): (bool, bool)) -> Result<String, Oops> {
        if fatal_turn {
            std::process::abort();
        }
        match cx.service::<RisksStub>().take(fatal_task).await {
            Err(TaskError::WorkerLost) => Ok("lost".into()),
            other => Ok(other?),
        }
    }
}

fn open(directory: &Path) -> Arc<Embedded> {
    Arc::new(Embedded::open(directory, Options::default()).expect("the broker's file"))
}

/// Starts all instances if it is the first process, and waits until both tasks have ended and the turn is given up.
async fn play(directory: &Path) {
    let partitura = Partitura::on(open(directory)).await.expect("an engine");
    let client = partitura.client();
    let named = |id: &str| client.workflow::<TakesRisks>(id);
    let started = directory.join("started");
    if !started.exists() {
        let workflow = Destination::Workflow("TakesRisks".into());
        partitura.declare(&workflow).await.expect("declared");
        // Without a worker, nothing ends the process before all are there.
        let inputs = [
            ("good-1", (false, false)),
            ("fatal-turn", (false, true)),
            ("fatal-task", (true, false)),
            ("good-2", (false, false)),
        ];
        for (id, input) in inputs {
            named(id).start(input).await.expect("started");
        }
        std::fs::write(started, "").expect("a file");
    }
    let worker = partitura.worker().service(RisksService(Taken)).workflow::<TakesRisks>().concurrency(8);
    let worker = worker.start().await.expect("a worker");
    for id in ["good-1", "good-2"] {
        assert_eq!(soon(named(id).result()).await.expect("a result"), "taken");
    }
    assert_eq!(soon(named("fatal-task").result()).await.expect("a result"), "lost");
    let reason = eventually(|| async {
        match named("fatal-turn").describe().await.ok()?.status {
            Status::Stopped { reason } => Some(reason),
            _ => None,
        }
    });
    let reason = reason.await;
    assert!(reason.contains("its worker or process was lost 5 times while it ran"), "{reason}");
    let letters = partitura.dead_letters(&Destination::Service("Risks".into())).expect("letters");
    let letters = letters.list(10).await.expect("a list");
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    assert!(letter.error.as_deref().is_some_and(|error| error.contains("lost 5 times")), "{letter:?}");
    worker.stop().await.expect("an orderly end");
}

/// Acts as a process of the test below.
#[test]
#[ignore = "ends its process"]
fn a_process_that_takes_risks() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(play(&directory));
}

#[test]
fn a_task_or_a_turn_that_ends_the_process_is_given_up_and_all_others_are_done() {
    let directory = tempfile::tempdir().expect("a directory");
    let program = std::env::current_exe().expect("this test");
    for ended in 0..=MOST {
        let mut process = Command::new(&program);
        process.args(["--ignored", "--exact", "poison::a_process_that_takes_risks"]).env(DIRECTORY, directory.path());
        let output = process.stdin(Stdio::null()).output().expect("a process");
        if output.status.success() {
            assert!(ended >= 5, "it ended {ended} times only");
            return;
        }
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(!text.contains("FAILED"), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    }
    panic!("it ended more than {MOST} times");
}

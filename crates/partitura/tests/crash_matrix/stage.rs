//! The process that is crashed: this test's own program, started again with a plan.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use partitura::{Client, Partitura, Workflow, WorkflowError, WorkflowHandle, millis};
use partitura_broker::{ConsumerOptions, ErrorKind, Ordering, Result, SubscriptionName, TopicName, Topology};
use partitura_embedded::{Embedded, Options};
use partitura_engine::BrokerStore;
use serde::{Deserialize, Serialize};

use crate::broker::{FusedBroker, FusedStore};
use crate::diary::{Diary, Entry, Ledger};
use crate::flaw::Flaw;
use crate::fuse::Fuse;
use crate::program::{BandService, Fault, Form, Number, PROGRAM, Piece, PieceSignal, Players};

/// The plan of a process that is to be crashed.
pub(crate) const PLAN: &str = "CRASH_MATRIX_PLAN";
/// Nothing takes as long on any machine; a process that does is stuck.
const TIME_LIMIT: Duration = Duration::from_secs(60);
/// Many flaws show in a wait that never ends.
const TIME_LIMIT_WITH_FLAWS: Duration = Duration::from_secs(5);
pub(crate) const PARTITIONS: u32 = 2;

/// How a turn is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Mode {
    /// In one transaction of the broker.
    OneStep,
    /// The state in a store, then the messages to a broker without transactions.
    TwoSteps,
}

/// The plan of a process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) directory: PathBuf,
    pub(crate) mode: Mode,
    /// Only this number of the program.
    pub(crate) only: Option<String>,
    /// Crash there; `None`: come to the end.
    pub(crate) crash_at: Option<u32>,
    /// The deliberate flaw.
    pub(crate) flaw: Option<Flaw>,
    /// Stay a while when all has ended: a task that is delivered again asks its workflow first whether it is wanted.
    pub(crate) linger: bool,
}

/// Far longer than a question to a workflow takes.
const LINGER: std::time::Duration = std::time::Duration::from_secs(3);

/// How it ended.
pub(crate) enum Ending {
    Crashed { at: String },
    Finished { points: u32 },
}

impl Plan {
    pub(crate) fn diary(&self) -> PathBuf {
        self.directory.join("diary")
    }

    pub(crate) fn ledger(&self) -> PathBuf {
        self.directory.join("ledger")
    }

    pub(crate) fn messages(&self) -> PathBuf {
        self.directory.join("broker")
    }

    /// Where the state is: with the messages, or in a file of its own.
    pub(crate) fn state(&self) -> PathBuf {
        self.directory.join(if self.mode == Mode::OneStep { "broker" } else { "store" })
    }

    pub(crate) fn numbers(&self) -> impl Iterator<Item = &'static Number> + '_ {
        PROGRAM.iter().filter(|number| self.only.as_deref().is_none_or(|only| only == number.id))
    }

    /// Runs it in a process of its own.
    pub(crate) fn run(&self) -> std::result::Result<Ending, String> {
        let entries = Diary::read(&self.diary()).len();
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let plan = serde_json::to_string(self).map_err(|error| error.to_string())?;
        let mut process = Command::new(program);
        process.args(["the_process_that_is_crashed", "--exact", "--nocapture"]).env(PLAN, plan);
        process.stdin(Stdio::null());
        let output = process.output().map_err(|error| error.to_string())?;
        let said = || String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned();
        match Diary::read(&self.diary()).split_off(entries).pop() {
            Some(Entry::Crashed(at)) if !output.status.success() => Ok(Ending::Crashed { at }),
            Some(Entry::Finished(points)) if output.status.success() => Ok(Ending::Finished { points }),
            last => Err(format!("it ended with {} after {last:?} and said:\n{}", output.status, said())),
        }
    }

    fn fuse(&self) -> Fuse {
        Fuse::new(self.crash_at, self.diary())
    }
}

/// The stream of what happens to instances, and a subscription that keeps it.
pub(crate) fn audit() -> Result<(TopicName, SubscriptionName)> {
    Ok((TopicName::new(format!("workflow.{}.events", Piece::NAME))?, SubscriptionName::new("audit")?))
}

pub(crate) fn audited() -> Result<ConsumerOptions> {
    audit().map(|(events, subscription)| ConsumerOptions::new(subscription, [events]))
}

/// Does what the plan says, up to the end or to the crash.
pub(crate) fn perform(plan: &Plan) {
    // Should the runtime itself be stuck, nobody else could say so.
    let patience = if plan.flaw.is_none() { TIME_LIMIT } else { TIME_LIMIT_WITH_FLAWS };
    thread::spawn(move || {
        thread::sleep(patience);
        eprintln!("stuck for {patience:?}");
        std::process::exit(3);
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let points = runtime.block_on(async {
        let fuse = plan.fuse();
        run(plan, &fuse).await.expect("nothing fails but what is crashed");
        fuse.passed()
    });
    Diary::open(&plan.diary()).finished(points);
}

async fn run(plan: &Plan, fuse: &Fuse) -> Result<()> {
    fs::create_dir_all(&plan.directory).expect("a directory");
    let partitura = connect(plan, fuse).await?;
    let (events, subscription) = audit()?;
    let keyed = Ordering::ByKey { partitions: PARTITIONS };
    partitura
        .broker()
        .declare(&Topology::new().stream(events.clone(), keyed).subscription(subscription, [events]))
        .await?;
    let players = Players { ledger: Arc::new(Ledger::open(&plan.ledger())), fuse: fuse.clone() };
    let worker = partitura.worker().service(BandService(players)).workflow::<Piece>().start().await?;
    conduct(plan, &partitura.client()).await;
    if plan.linger {
        tokio::time::sleep(LINGER).await;
    }
    worker.stop().await?;
    partitura.close().await
}

async fn connect(plan: &Plan, fuse: &Fuse) -> Result<Partitura> {
    let messages = open(&plan.messages())?;
    if plan.mode == Mode::OneStep {
        let broker = FusedBroker::new(messages, fuse.clone(), plan.flaw);
        return Partitura::on(Arc::new(broker)).partitions(PARTITIONS).drain_within(millis(1_000)).await;
    }
    let state = open(&plan.state())?;
    let store = FusedStore::new(Arc::new(BrokerStore::new(state)?), fuse.clone(), plan.flaw);
    let broker = FusedBroker::without_transactions(messages, fuse.clone());
    Partitura::on(Arc::new(broker)).store(Arc::new(store)).partitions(PARTITIONS).drain_within(millis(1_000)).await
}

/// The test itself has looked into the file before. It has closed it, but a process that another of its threads is just
/// starting shares its open files, until it runs its own program: that takes a moment.
fn open(directory: &Path) -> Result<Arc<Embedded>> {
    const TRIES: u32 = 200;
    let mut tries = 0;
    loop {
        tries += 1;
        match Embedded::open(directory, Options::default()) {
            Err(error) if error.kind() == ErrorKind::Busy && tries < TRIES => thread::sleep(millis(1)),
            opened => return opened.map(Arc::new),
        }
    }
}

/// Acts as a client: it starts the instances that it does not know to be started, and waits for all outcomes.
async fn conduct(plan: &Plan, client: &Client) {
    let so_far = Diary::read(&plan.diary());
    let mut diary = Diary::open(&plan.diary());
    let mut waiting = Vec::new();
    for number in plan.numbers() {
        let handle = client.workflow::<Piece>(number.id);
        if !so_far.contains(&Entry::Started(number.id.to_owned())) {
            handle.start(number.form).await.expect("started");
            diary.started(number.id);
        }
        if !so_far.contains(&Entry::Told(number.id.to_owned())) {
            tell(number.form, &handle).await;
            diary.told(number.id);
        }
        waiting.push(handle);
    }
    for handle in waiting {
        let outcome = outcome(handle.result().await);
        diary.ended(handle.id(), &outcome);
    }
}

/// Sends the signals that come from outside while it runs.
async fn tell(form: Form, handle: &WorkflowHandle<Piece>) {
    match form {
        Form::Signal => handle.signal(PieceSignal::cue("now".into())).await.expect("sent"),
        Form::Cancel => handle.cancel("enough").await.expect("sent"),
        _ => {}
    }
}

fn outcome(result: std::result::Result<String, WorkflowError<Fault>>) -> String {
    match result {
        Ok(text) => format!("ok: {text}"),
        Err(WorkflowError::Failed(fault)) => format!("failed: {fault}"),
        Err(WorkflowError::Cancelled { .. }) => "cancelled".into(),
        Err(other) => format!("unexpected: {other:?}"),
    }
}

//! Turns one by one, and those of two owners in the one order that shows what the simulation found by chance.

use std::future::Future;
use std::sync::PoisonError;

use async_trait::async_trait;
use bytes::Bytes;
use partitura_broker::{Broker, Entry, ProducerOptions, Put, Result, ScanRange, Space, SystemClock, Version};
use partitura_embedded::{Embedded, Options};
use partitura_lanes::{Handler, Trials};
use partitura_workflow::{Cx, Definition, EventKind, Payload, PayloadError, Query, QueryError, Signal, Workflow};
use tokio::sync::Notify;

mod beats;
mod copies;
mod ending;
mod overtaken;
mod timers;

use super::stopping::PANICS;
use super::*;
use crate::core::ReplayValues;
use crate::messaging::directory::{Destination, Directory};
use crate::messaging::mailbox::{Mailbox, PendingReply};
use crate::storage::pauses::Pauses;
use crate::storage::store::{BrokerStore, Store};
use crate::storage::turn_store::TurnStore;
use crate::telemetry::propagator::Propagation;
use crate::wire::events::EventTopic;
use crate::wire::ids::SystemIds;
use crate::wire::namespace::Namespace;
use crate::wire::summary::Status;
use crate::wire::{Payloads, Request, Start, StartPolicy};
use crate::workflow::delay_cancellation::DelayCancellation;
use crate::workflow::listeners::Listeners;
use crate::workflow::steps::Steps;

/// Counts signals until there are enough.
#[derive(Debug, Default)]
struct Tally(u64);

impl Workflow for Tally {
    const NAME: &'static str = "Tally";
    type Input = u64;
    type Output = u64;
    type Error = String;

    async fn run(cx: Cx<Self>, enough: u64) -> Result<u64, String> {
        cx.until(move |tally: &Self| tally.0 >= enough).await.map_err(|cancelled| cancelled.to_string())?;
        Ok(enough)
    }

    fn signal(&mut self, _: &str, _: &Payload) -> Result<bool, PayloadError> {
        self.0 += 1;
        Ok(true)
    }

    fn query(&self, _: &str, _: &Payload) -> Result<Payload, QueryError> {
        Ok(Payload::encode(&self.0)?)
    }

    fn describe(error: &String) -> String {
        error.clone()
    }
}

/// The same with a flaw: it panics at the first signal.
#[derive(Debug, Default)]
struct Flawed(Tally);

impl Workflow for Flawed {
    const NAME: &'static str = Tally::NAME;
    type Input = u64;
    type Output = u64;
    type Error = String;

    async fn run(cx: Cx<Self>, _: u64) -> Result<u64, String> {
        cx.until(|flawed: &Self| flawed.0.0 > 0).await.map_err(|cancelled| cancelled.to_string())?;
        // Without the noise of the hook.
        std::panic::resume_unwind(Box::new("a flaw"));
    }

    fn signal(&mut self, name: &str, payload: &Payload) -> Result<bool, PayloadError> {
        self.0.signal(name, payload)
    }

    fn describe(error: &String) -> String {
        error.clone()
    }
}

/// Where a store can be held up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Point {
    /// A write has happened and is not answered.
    Written,
    /// The summary was read, the history was not.
    BeforeHistory,
}

/// A store that is held up once, at a point of the test's choice.
#[derive(Debug)]
struct Gate {
    store: BrokerStore,
    /// How often it lets others pass before.
    closed: Mutex<Option<(Point, u32)>>,
    reached: Notify,
    opened: Notify,
}

impl Gate {
    fn close(&self, point: Point) {
        self.close_behind(point, 0);
    }

    fn close_behind(&self, point: Point, passing: u32) {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner) = Some((point, passing));
    }

    /// Whether this one is held up.
    fn holds_up(&self, point: Point) -> bool {
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *closed {
            Some((at, passing)) if *at == point && *passing > 0 => *passing -= 1,
            Some((at, _)) if *at == point => return closed.take().is_some(),
            _ => {}
        }
        false
    }

    async fn pass(&self, point: Point) {
        if self.holds_up(point) {
            self.reached.notify_one();
            self.opened.notified().await;
        }
    }
}

#[async_trait]
impl Store for Gate {
    async fn write(&self, groups: Vec<Vec<Put>>) -> Vec<Result<()>> {
        let results = self.store.write(groups).await;
        self.pass(Point::Written).await;
        results
    }

    async fn get(&self, space: Space, key: Bytes) -> Result<Option<(Version, Bytes)>> {
        self.store.get(space, key).await
    }

    async fn scan(&self, range: ScanRange, limit: usize) -> Result<Vec<Entry>> {
        if range.space == crate::storage::turn_store::HISTORY {
            self.pass(Point::BeforeHistory).await;
        }
        self.store.scan(range, limit).await
    }
}

/// A broker, and the mailbox of somebody who asks.
struct Stage {
    broker: Arc<dyn Broker>,
    mailbox: Mailbox,
    key: InstanceKey,
}

/// One worker's runner, and its way to the store.
struct Owner {
    runner: WorkflowRunner,
    gate: Arc<Gate>,
}

impl Stage {
    async fn new() -> Self {
        let broker: Arc<dyn Broker> = Arc::new(Embedded::memory(Options::default()).expect("a broker in memory"));
        let mailbox = Mailbox::open(&*broker, &Payloads::default()).await.expect("a mailbox");
        Self { broker, mailbox, key: InstanceKey::new(Tally::NAME, "t") }
    }

    async fn owner<W: Workflow>(&self) -> Owner {
        self.owner_by::<W>(true).await
    }

    /// An owner that keeps state in a store beside the broker, or by the broker's own transactions.
    async fn owner_by<W: Workflow>(&self, beside: bool) -> Owner {
        let store = BrokerStore::new(self.broker.clone()).expect("the embedded broker keeps state");
        let gate = Arc::new(Gate { store, closed: Mutex::default(), reached: Notify::new(), opened: Notify::new() });
        let store = beside.then(|| gate.clone() as Arc<dyn Store>);
        let (one, names) = (NonZeroUsize::MIN, Namespace::default());
        let directory = Arc::new(Directory::new(self.broker.clone(), names.clone(), 1));
        directory.serve(Destination::Workflow(W::NAME.to_owned())).await.expect("declared");
        let topics = directory.workflow(W::NAME).expect("a name");
        let producer: Arc<dyn Producer> =
            self.broker.producer(ProducerOptions::default()).await.expect("a producer").into();
        let named = (W::NAME, topics.commands.clone());
        let context = Context {
            definition: Definition::for_workflow::<W>(),
            build: "1".into(),
            code: "1".into(),
            ids: Arc::new(SystemIds),
            clock: Arc::new(SystemClock),
            turn_store: TurnStore::of_workflow(&self.broker, store, Arc::new(SystemClock), names, named)
                .await
                .expect("a turn_store"),
            directory,
            events: EventTopic::new(&self.broker, &Payloads::default(), topics.events.clone(), false),
            topics,
            steps: Steps::new(8),
            delay_cancellation: DelayCancellation::new(&*self.broker, &producer),
            replay_values: ReplayValues::default(),
            history_limits: crate::HistoryLimits::default(),
            retention: crate::Retention::default(),
            listeners: Listeners::default(),
            propagation: Propagation::default(),
            layers: crate::layer::Layers::default(),
            pauses: Arc::new(Pauses::new(TurnStore::of_client(&self.broker, None, Namespace::default()))),
        };
        let crashes = Crashes::new(context.turn_store.clone(), 5, Trials::default());
        let (kept, counted) = ((one, Duration::ZERO), (crashes, one));
        Owner { runner: WorkflowRunner::new(context, producer, kept, counted), gate }
    }

    /// Has an owner take a turn with these commands, each under an id of its own.
    fn turn<'a>(
        &'a self,
        owner: &'a Owner,
        commands: impl IntoIterator<Item = (&'static str, Command)>,
    ) -> impl Future<Output = Outcome> + 'a {
        let topic = &owner.runner.0.context.topics.commands;
        let (partition, slot) = (Partition(0), 1);
        let term = owner.runner.live().term(partition);
        let deliveries: Vec<_> = commands
            .into_iter()
            .map(|(id, command)| Delivery {
                message: wire::command(&Payloads::default(), topic, &self.key.id, id.to_owned(), &command),
                partition,
                redelivered: false,
                token: AckToken { consumer: 0, partition, epoch: 1, slot },
            })
            .collect();
        async move { owner.runner.turn(&self.key, &deliveries, PANICS, term).await }
    }

    async fn ask(&self, owner: &Owner, question: impl FnOnce(ReplyTo) -> Command) -> ReplyBody {
        let (reply_to, reply) = self.mailbox.request();
        assert_eq!(self.turn(owner, [("question", question(reply_to))]).await, Outcome::Done);
        answer(reply).await
    }

    async fn count(&self, owner: &Owner) -> u64 {
        let (name, args) = Query::<Tally, u64>::new("count", Payload::encode(&())).into_parts().expect("a query");
        match self.ask(owner, |reply_to| Command::Query { name, args, reply_to }).await {
            ReplyBody::Answer(count) => count.decode().expect("a number"),
            other => panic!("{other:?}"),
        }
    }

    async fn summary(&self, owner: &Owner) -> (String, Status) {
        match self.ask(owner, |reply_to| Command::Describe { reply_to }).await {
            ReplyBody::Description(summary) => (summary.run, summary.status),
            other => panic!("{other:?}"),
        }
    }
}

/// Gives the reply. A reply that has been sent is there at once; another never comes.
async fn answer(reply: PendingReply) -> ReplyBody {
    let answered = tokio::time::timeout(Duration::from_secs(10), reply).await;
    answered.expect("an answer").expect("an open mailbox")
}

const FIRST: &str = "00000000-0000-7000-8000-000000000001";
const SECOND: &str = "00000000-0000-7000-8000-000000000002";

fn start(run: &str, enough: u64, policy: StartPolicy) -> Command {
    let input = Payload::encode(&enough).expect("a number");
    Command::Start(Box::new(Start { policy, ..Start::new(run.to_owned(), input) }))
}

fn signal() -> Command {
    let (name, payload) = Signal::<Tally>::to_channel("one more", &()).into_parts().expect("a signal");
    Command::Signal { name, payload, request: Request::default() }
}

#[tokio::test(start_paused = true)]
async fn an_instance_whose_partition_went_and_came_back_during_a_turn_is_not_kept() {
    let stage = Stage::new().await;
    let (first, second) = (stage.owner::<Tally>().await, stage.owner::<Tally>().await);
    stage.turn(&first, [("s", start(FIRST, 9, StartPolicy::UseExisting))]).await;
    first.gate.close(Point::Written);
    let slow = stage.turn(&first, [("a", signal())]);
    let elsewhere = async {
        first.gate.reached.notified().await;
        first.runner.released(&[Partition(0)]);
        assert_eq!(stage.turn(&second, [("b", signal())]).await, Outcome::Done);
        first.gate.opened.notify_one();
    };
    tokio::join!(slow, elsewhere);
    // The partition is the first owner's again: it sees what the second has done.
    assert_eq!(stage.count(&first).await, 2);
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_ends_between_two_reads_has_ended() {
    let stage = Stage::new().await;
    let (first, second) = (stage.owner::<Tally>().await, stage.owner::<Tally>().await);
    stage.turn(&second, [("s", start(FIRST, 1, StartPolicy::UseExisting))]).await;
    first.gate.close(Point::BeforeHistory);
    let (reply_to, reply) = stage.mailbox.request();
    let slow = stage.turn(&first, [("q", Command::Await { reply_to, stops: false })]);
    let ending = async {
        first.gate.reached.notified().await;
        assert_eq!(stage.turn(&second, [("a", signal())]).await, Outcome::Done);
        first.gate.opened.notify_one();
    };
    tokio::join!(slow, ending);
    assert!(matches!(answer(reply).await, ReplyBody::Ended(Ended::Ok(_))));
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_was_fenced_does_not_answer_from_the_past() {
    let stage = Stage::new().await;
    let owner = stage.owner_by::<Tally>(false).await;
    // The broker never gave out such tokens.
    let refused = stage.turn(&owner, [("s", start(FIRST, 9, StartPolicy::UseExisting))]).await;
    assert_eq!(refused, Outcome::Lost);
    let (reply_to, reply) = stage.mailbox.request();
    assert_eq!(stage.turn(&owner, [("q", Command::Describe { reply_to })]).await, Outcome::Lost);
    let silence = tokio::time::timeout(Duration::from_secs(10), reply).await;
    assert!(silence.is_err(), "{silence:?}");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_ends_in_the_turn_that_replaces_it_keeps_its_end() {
    let stage = Stage::new().await;
    let (owner, other) = (stage.owner::<Tally>().await, stage.owner::<Tally>().await);
    stage.turn(&owner, [("s", start(FIRST, 1, StartPolicy::Replace))]).await;
    let (reply_to, reply) = stage.mailbox.request();
    let batch = [
        ("q", Command::Await { reply_to, stops: false }),
        ("a", signal()),
        ("r", start(SECOND, 1, StartPolicy::Replace)),
    ];
    assert_eq!(stage.turn(&owner, batch).await, Outcome::Done);
    assert!(matches!(answer(reply).await, ReplyBody::Ended(Ended::Ok(_))));
    assert_eq!(stage.summary(&other).await, (SECOND.to_owned(), Status::Running));
    assert_eq!(stage.count(&other).await, 0);
}

#[tokio::test(start_paused = true)]
async fn what_comes_with_the_resumption_of_a_stopped_instance_is_kept() {
    let stage = Stage::new().await;
    let (flawed, repaired) = (stage.owner::<Flawed>().await, stage.owner::<Tally>().await);
    stage.turn(&flawed, [("s", start(FIRST, 9, StartPolicy::UseExisting))]).await;
    assert_eq!(stage.turn(&flawed, [("a", signal())]).await, Outcome::Done);
    assert!(matches!(stage.summary(&flawed).await.1, Status::Stopped { .. }));
    let batch = [("b", signal()), ("r", Command::Resume), ("c", signal())];
    assert_eq!(stage.turn(&repaired, batch).await, Outcome::Done);
    // Another owner knows only what is stored.
    assert_eq!(stage.count(&stage.owner::<Tally>().await).await, 3);
}

#[tokio::test(start_paused = true)]
async fn nothing_follows_the_end_of_a_stopped_instance() {
    let stage = Stage::new().await;
    let flawed = stage.owner::<Flawed>().await;
    stage.turn(&flawed, [("s", start(FIRST, 9, StartPolicy::UseExisting))]).await;
    stage.turn(&flawed, [("a", signal())]).await;
    let batch = [
        ("t", Command::Terminate { reason: "enough".into(), request: Request::default() }),
        ("b", signal()),
        ("r", Command::Resume),
    ];
    assert_eq!(stage.turn(&flawed, batch).await, Outcome::Done);
    assert_eq!(stage.summary(&flawed).await.1, Status::Failed);
    let history = |reply_to| Command::History { run: None, from: 0, offset: 0, reply_to };
    match stage.ask(&flawed, history).await {
        ReplyBody::HistoryPage { events, .. } => {
            assert!(matches!(events.last().map(|event| &event.kind), Some(EventKind::WorkflowFailed { .. })));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_stopped_instance_tries_again_by_itself_and_leaves_no_trace_of_trying_in_vain() {
    let stage = Stage::new().await;
    let (flawed, repaired) = (stage.owner::<Flawed>().await, stage.owner::<Tally>().await);
    stage.turn(&flawed, [("s", start(FIRST, 1, StartPolicy::UseExisting))]).await;
    stage.turn(&flawed, [("a", signal())]).await;
    let turns = || async {
        let turn_store = &flawed.runner.0.context.turn_store;
        crate::storage::history::load(turn_store, &stage.key, FIRST).await.expect("a history").turns
    };
    let before = turns().await;
    let again = |tried| Command::TryAgain { run: FIRST.to_owned(), tried };
    assert_eq!(stage.turn(&flawed, [("w0", again(0))]).await, Outcome::Done);
    assert_eq!(turns().await, before);
    assert_eq!(stage.turn(&repaired, [("w1", again(1))]).await, Outcome::Done);
    assert_eq!(stage.summary(&repaired).await.1, Status::Completed);
}

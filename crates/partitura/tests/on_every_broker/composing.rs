//! Calls, timers, signals and children, put together in one workflow in every way.

use partitura::{Cx, ParentEnd, Signal, Worker, Workflow, WorkflowError, join_all, millis, minutes, select};

use crate::stage::{Stage, forgetful};
use crate::support::{Oops, TextService, TextStub, Texts, Waits, WaitsSignal, eventually, soon};

/// Runs one instance beside the [`Text`](crate::support::Text) service.
pub(crate) async fn outcome<W: Workflow>(
    stage: &Stage,
    register: impl FnOnce(Worker) -> Worker,
    input: W::Input,
) -> Result<W::Output, WorkflowError<W::Error>> {
    let partitura = stage.application().await;
    let worker = partitura.worker().service(TextService(Texts::default()));
    let worker = register(worker).start().await.expect("a worker");
    let handle = partitura.client().workflow::<W>("one");
    handle.start(input).await.expect("started");
    let outcome = soon(handle.result()).await;
    worker.stop().await.expect("stopped");
    outcome
}

/// Waits for a word, up to a time.
#[derive(Debug, Default)]
struct Patient;

#[partitura::workflow]
impl Patient {
    #[run]
    async fn run(cx: Cx<Self>, is_short: bool) -> Result<String, Oops> {
        select! {
            word = cx.channel::<String>("word").recv() => word.map_err(|error| Oops::Task(error.to_string())),
            _ = cx.sleep(if is_short { millis(20) } else { minutes(60) }) => Ok("nothing".into()),
        }
    }
}

pub(crate) async fn a_timer_and_a_signal_race_and_either_may_win(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Patient>().start().await.expect("a worker");
    for (is_short, expected) in [(true, "nothing"), (false, "hello")] {
        let patient = partitura.client().workflow::<Patient>(expected);
        patient.start(is_short).await.expect("started");
        if !is_short {
            patient.signal(Signal::to_channel("word", &"hello".to_owned())).await.expect("sent");
        }
        assert_eq!(soon(patient.result()).await.expect("a result"), expected);
    }
    worker.stop().await.expect("stopped");
}

/// Moves its alarm: the first one is cancelled, and another is set to an instant.
#[derive(Debug, Default)]
struct Alarm;

#[partitura::workflow]
impl Alarm {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<bool, Oops> {
        let mut first = cx.sleep(minutes(60)).start();
        let begun = cx.now();
        first.cancel();
        let was_cancelled = first.await.is_err();
        cx.sleep_until(begun + millis(30)).await?;
        Ok(was_cancelled && cx.now() >= begun + millis(30))
    }
}

pub(crate) async fn a_timer_is_cancelled_and_another_set_to_an_instant(stage: Stage) {
    assert!(outcome::<Alarm>(&stage, |worker| worker.workflow::<Alarm>(), ()).await.expect("a result"));
}

/// The same time, chance and ids whenever its code runs again.
#[derive(Debug, Default)]
struct Dice {
    thrown: String,
}

#[partitura::workflow]
impl Dice {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<String, Oops> {
        let thrown = format!("{} {} {}", cx.now(), cx.random::<u64>(), cx.uuid());
        cx.state(|dice| dice.thrown = thrown);
        cx.channel::<()>("go").recv().await.map_err(|error| Oops::Task(error.to_string()))?;
        Ok(cx.state(|dice| dice.thrown.clone()))
    }

    #[query]
    fn thrown(&self) -> String {
        self.thrown.clone()
    }
}

pub(crate) async fn time_chance_and_ids_are_the_same_in_another_worker(stage: Stage) {
    let [first, second] = stage.processes(forgetful).await;
    let worker = first.worker().workflow::<Dice>().start().await.expect("a worker");
    let dice = first.client().workflow::<Dice>("d");
    dice.start(()).await.expect("started");
    let thrown = soon(dice.query(DiceQuery::thrown())).await.expect("an answer");
    worker.stop().await.expect("stopped");
    let worker = second.worker().workflow::<Dice>().start().await.expect("a worker");
    dice.signal(Signal::to_channel("go", &())).await.expect("sent");
    assert_eq!(soon(dice.result()).await.expect("a result"), thrown);
    worker.stop().await.expect("stopped");
}

/// Has children of its own kind, one level less deep.
#[derive(Debug, Default)]
struct Tree;

#[partitura::workflow]
impl Tree {
    #[run]
    async fn run(cx: Cx<Self>, depth: u32) -> Result<u32, Oops> {
        let mut leaves = u32::from(depth == 0);
        if depth > 0 {
            let all = (0..2).map(|branch| cx.child::<Tree>(format!("{}.{branch}", cx.id())).run(depth - 1));
            for below in join_all(all.collect::<Vec<_>>()).await {
                leaves += below.map_err(|error| Oops::Task(error.to_string()))?;
            }
        }
        Ok(leaves)
    }
}

pub(crate) async fn children_have_children_of_their_own(stage: Stage) {
    assert_eq!(outcome::<Tree>(&stage, |worker| worker.workflow::<Tree>(), 3).await.expect("a result"), 8);
}

/// Starts two children, one after the other has been asked to wait, and awaits the second one first.
#[derive(Debug, Default)]
struct Asynchronous;

#[partitura::workflow]
impl Asynchronous {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<String, Oops> {
        let failed = |error: partitura::ChildError<Oops>| Oops::Task(error.to_string());
        let first = cx.child::<Waits>("first").start(());
        let second = cx.child::<Waits>("second").start(());
        for id in ["second", "first"] {
            cx.signal::<Waits>(id, WaitsSignal::release(id.into())).expect("an id");
        }
        let second = second.await.map_err(failed)?;
        Ok(second + " " + &first.await.map_err(failed)?)
    }
}

pub(crate) async fn children_that_were_started_are_signalled_and_awaited_in_any_order(stage: Stage) {
    let both = |worker: Worker| worker.workflow::<Asynchronous>().workflow::<Waits>();
    assert_eq!(outcome::<Asynchronous>(&stage, both, ()).await.expect("a result"), "second first");
}

/// Ends before its children do.
#[derive(Debug, Default)]
struct Leaves;

#[partitura::workflow]
impl Leaves {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(), Oops> {
        cx.child::<Waits>("detached").detach(()).expect("an id");
        drop(cx.child::<Waits>("abandoned").on_parent_end(ParentEnd::Abandon).start(()));
        drop(cx.child::<Waits>("cancelled").start(()));
        drop(cx.child::<Waits>("terminated").on_parent_end(ParentEnd::Terminate).start(()));
        Ok(())
    }
}

pub(crate) async fn a_child_goes_on_or_ends_with_its_parent_as_it_was_told(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Leaves>().workflow::<Waits>().start().await.expect("a worker");
    let client = partitura.client();
    let leaves = client.workflow::<Leaves>("leaves");
    leaves.start(()).await.expect("started");
    soon(leaves.result()).await.expect("a result");
    let cancelled = soon(client.workflow::<Waits>("cancelled").result()).await;
    assert!(matches!(cancelled, Err(WorkflowError::Cancelled { .. })), "{cancelled:?}");
    let terminated = soon(client.workflow::<Waits>("terminated").result()).await;
    assert!(matches!(terminated, Err(WorkflowError::Terminated(_))), "{terminated:?}");
    for id in ["detached", "abandoned"] {
        let waits = client.workflow::<Waits>(id);
        waits.signal(WaitsSignal::release(id.into())).await.expect("sent");
        assert_eq!(soon(waits.result()).await.expect("a result"), id);
    }
    worker.stop().await.expect("stopped");
}

/// Joins of races, and races of joins.
#[derive(Debug, Default)]
struct Nested;

#[partitura::workflow]
impl Nested {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<Vec<String>, Oops> {
        let texts = cx.service::<TextStub>();
        let dotted = async |text: &str| texts.dot(text.to_owned()).await.map_err(Oops::from);
        let race = async |text: &str| {
            select! {
                dotted = dotted(text) => dotted,
                _ = cx.sleep(minutes(60)) => Ok("late".to_owned()),
            }
        };
        let joined = join_all(["a", "b", "c"].map(race)).await;
        let mut said = joined.into_iter().collect::<Result<Vec<_>, _>>()?;
        let raced = select! {
            both = join_all(["d", "e"].map(&dotted)) => both.into_iter().collect::<Result<Vec<_>, _>>()?,
            _ = texts.hang() => vec!["hung".to_owned()],
        };
        said.extend(raced);
        Ok(said)
    }
}

pub(crate) async fn joins_of_races_and_races_of_joins_are_awaited(stage: Stage) {
    let said = outcome::<Nested>(&stage, |worker| worker.workflow::<Nested>(), ()).await.expect("a result");
    assert_eq!(said, ["a.", "b.", "c.", "d.", "e."]);
}

/// Says how long its history is before and after some work.
#[derive(Debug, Default)]
struct Growing;

#[partitura::workflow]
impl Growing {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(usize, usize), Oops> {
        let before = cx.history_len();
        for _ in 0..3 {
            cx.service::<TextStub>().dot("x".into()).await?;
        }
        Ok((before, cx.history_len()))
    }
}

pub(crate) async fn a_workflow_knows_how_long_its_history_is(stage: Stage) {
    let grown = outcome::<Growing>(&stage, |worker| worker.workflow::<Growing>(), ()).await.expect("a result");
    // A start; then each task is scheduled and completed.
    assert_eq!(grown.1 - grown.0, 6, "{grown:?}");
}

/// Tells its name, its parent's and its labels.
#[derive(Debug, Default)]
struct Named;

#[partitura::workflow]
impl Named {
    #[run]
    async fn run(cx: Cx<Self>, is_child: bool) -> Result<Vec<String>, Oops> {
        if !is_child {
            let child = cx.child::<Named>("little").tags(["small"]).run(true).await;
            return child.map_err(|error| Oops::Task(error.to_string()));
        }
        let parent = cx.parent().map(|parent| parent.id.clone()).unwrap_or_default();
        Ok([vec![cx.id().to_owned(), parent], cx.tags().to_vec()].concat())
    }
}

pub(crate) async fn a_child_knows_its_id_its_tags_and_its_parent(stage: Stage) {
    let named = outcome::<Named>(&stage, |worker| worker.workflow::<Named>(), false).await.expect("a result");
    assert_eq!(named, ["little", "one", "small"]);
}

/// Several handlers change its state while its code waits.
#[derive(Debug, Default)]
struct Tally {
    sum: u32,
    is_over: bool,
}

#[partitura::workflow]
impl Tally {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<u32, Oops> {
        cx.until(|tally: &Tally| tally.is_over).await?;
        Ok(cx.state(|tally| tally.sum))
    }

    #[signal]
    fn add(&mut self, number: u32) {
        self.sum += number;
    }

    #[update]
    fn double(&mut self) -> u32 {
        self.sum *= 2;
        self.sum
    }

    #[signal]
    fn close(&mut self) {
        self.is_over = true;
    }

    #[query]
    fn sum(&self) -> u32 {
        self.sum
    }
}

pub(crate) async fn several_handlers_of_a_running_instance_share_its_state(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Tally>().start().await.expect("a worker");
    let tally = partitura.client().workflow::<Tally>("t");
    tally.start(()).await.expect("started");
    tally.signal(TallySignal::add(3)).await.expect("sent");
    assert_eq!(soon(tally.update(TallyUpdate::double()).into_future()).await.expect("doubled"), 6);
    tally.signal(TallySignal::add(1)).await.expect("sent");
    eventually(async || (tally.query(TallyQuery::sum()).await.ok()? == 7).then_some(())).await;
    tally.signal(TallySignal::close()).await.expect("sent");
    assert_eq!(soon(tally.result()).await.expect("a result"), 7);
    worker.stop().await.expect("stopped");
}

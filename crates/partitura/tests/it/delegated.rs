//! Delegated tasks, in virtual time: their time-outs and heartbeats, and workers that die at the wrong moment.

use std::time::Duration;

use partitura::testing::TestEnv;
use partitura::{
    ClientError, Cx, Partitura, Retry, RunningWorker, TaskContext, TaskError, TaskToken, TokenRefusal, hours, minutes,
    seconds,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::support::{Oops, soon};
use crate::troubled::{Troubled, Virtual, embedded};

#[partitura::service]
trait Review {
    /// Hands the token out, and delegates.
    async fn review(&self, text: String) -> Result<u32, Oops>;
    /// Hands the token out in the first attempt, and panics; says in the next one how far the first was.
    async fn hasty(&self) -> Result<u32, Oops>;
    /// Hands the token out, and hangs.
    async fn hang(&self) -> Result<u32, Oops>;
}

#[derive(Clone)]
struct Booth(UnboundedSender<(TaskToken, Option<u32>)>);

type Tokens = UnboundedReceiver<(TaskToken, Option<u32>)>;

impl Booth {
    fn new() -> (Self, Tokens) {
        let (sender, receiver) = unbounded_channel();
        (Self(sender), receiver)
    }

    fn hand_out(&self) -> TaskContext {
        let task = TaskContext::current().expect("a task");
        let last = task.last_heartbeat().expect("a number");
        self.0.send((task.token(), last)).expect("the test");
        task
    }
}

impl Review for Booth {
    async fn review(&self, _text: String) -> Result<u32, Oops> {
        self.hand_out().delegate().await
    }

    async fn hasty(&self) -> Result<u32, Oops> {
        let task = self.hand_out();
        if task.attempt() == 1 {
            // Without the noise of the hook.
            std::panic::resume_unwind(Box::new("on purpose"));
        }
        task.delegate().await
    }

    async fn hang(&self) -> Result<u32, Oops> {
        self.hand_out();
        std::future::pending().await
    }
}

/// Calls one method, with one kind of limit.
#[derive(Debug, Default)]
struct Paper;

#[partitura::workflow]
impl Paper {
    #[run]
    async fn run(cx: Cx<Self>, what: String) -> Result<u32, Oops> {
        let review = cx.service::<ReviewStub>();
        let task = review.review(what.clone());
        let twice = Retry::fixed(seconds(1)).max_attempts(2);
        let result = match what.as_str() {
            "overall" => task.overall_timeout(hours(48)).await,
            "timeout" => task.timeout(hours(2)).retry(twice).await,
            "heartbeat" => task.heartbeat_timeout(minutes(10)).retry(twice).await,
            "hasty" => review.hasty().await,
            "hang" => review.hang().await,
            _ => task.await,
        };
        match result {
            Err(TaskError::TimedOut) => Ok(1_000),
            Err(TaskError::WorkerLost) => Ok(2_000),
            other => Ok(other?),
        }
    }
}

async fn next(tokens: &mut Tokens) -> (TaskToken, Option<u32>) {
    soon_or_days(tokens.recv()).await.expect("a token")
}

/// Virtual time passes while this waits.
async fn soon_or_days<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(hours(24 * 30), future).await.expect("it hangs")
}

fn refused(answer: Result<(), ClientError>) -> TokenRefusal {
    match answer {
        Err(ClientError::TokenRefused { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

fn env(booth: Booth) -> TestEnv {
    TestEnv::new().service(ReviewService(booth)).workflow::<Paper>()
}

#[tokio::test]
async fn a_test_completes_what_its_fake_delegated() {
    let (booth, mut tokens) = Booth::new();
    let env = env(booth);
    let paper = env.start::<Paper>("p", "plain".to_owned()).await;
    let (token, _) = next(&mut tokens).await;
    env.client().await.complete_task(&token, &7).await.expect("sent");
    assert_eq!(paper.result().await.expect("a result"), 7);
}

#[tokio::test]
async fn the_overall_timeout_counts_until_the_completion() {
    let (booth, mut tokens) = Booth::new();
    let env = env(booth);
    let paper = env.start::<Paper>("p", "overall".to_owned()).await;
    let (token, _) = next(&mut tokens).await;
    env.advance(hours(47)).await;
    env.client().await.heartbeat_task(&token, &1).await.expect("wanted");
    assert_eq!(paper.result().await.expect("a result"), 1_000);
    let late = env.client().await.complete_task(&token, &7).confirmed().await;
    assert_eq!(refused(late), TokenRefusal::Failed);
}

#[tokio::test]
async fn the_timeout_of_an_attempt_counts_until_the_completion() {
    let (booth, mut tokens) = Booth::new();
    let env = env(booth);
    let began = tokio::time::Instant::now();
    let paper = env.start::<Paper>("p", "timeout".to_owned()).await;
    let (first, _) = next(&mut tokens).await;
    let (second, _) = next(&mut tokens).await;
    let waited = began.elapsed();
    assert!(waited >= hours(2) && waited < hours(2) + minutes(1), "{waited:?}");
    let client = env.client().await;
    assert_eq!(refused(client.complete_task(&first, &7).confirmed().await), TokenRefusal::Superseded { latest: 2 });
    assert_eq!(paper.result().await.expect("a result"), 1_000);
    assert_eq!(refused(client.complete_task(&second, &7).confirmed().await), TokenRefusal::Failed);
    assert!(tokens.try_recv().is_err());
}

#[tokio::test]
async fn heartbeats_by_token_keep_a_delegated_task_alive_and_reach_the_next_attempt() {
    let (booth, mut tokens) = Booth::new();
    let env = env(booth);
    let paper = env.start::<Paper>("p", "heartbeat".to_owned()).await;
    let (first, _) = next(&mut tokens).await;
    let client = env.client().await;
    for page in 0..10 {
        env.advance(minutes(9)).await;
        client.heartbeat_task(&first, &page).await.expect("wanted");
    }
    let (second, told) = next(&mut tokens).await;
    assert_eq!((second.attempt(), told), (2, Some(9)));
    assert_eq!(refused(client.heartbeat_task(&first, &10).await), TokenRefusal::Superseded { latest: 2 });
    client.complete_task(&second, &7).confirmed().await.expect("taken");
    assert_eq!(paper.result().await.expect("a result"), 7);
}

#[tokio::test]
async fn a_token_of_an_attempt_that_failed_after_handing_it_out_is_refused() {
    let (booth, mut tokens) = Booth::new();
    let env = env(booth);
    let paper = env.start::<Paper>("p", "hasty".to_owned()).await;
    let (first, _) = next(&mut tokens).await;
    let (second, _) = next(&mut tokens).await;
    let client = env.client().await;
    assert_eq!(refused(client.complete_task(&first, &1).confirmed().await), TokenRefusal::Superseded { latest: 2 });
    client.complete_task(&second, &2).confirmed().await.expect("taken");
    assert_eq!(paper.result().await.expect("a result"), 2);
}

#[tokio::test]
async fn a_completion_counts_while_the_method_that_handed_the_token_out_still_runs() {
    let (booth, mut tokens) = Booth::new();
    let env = env(booth);
    let paper = env.start::<Paper>("p", "hang".to_owned()).await;
    let (token, _) = next(&mut tokens).await;
    env.client().await.complete_task(&token, &3).confirmed().await.expect("taken");
    assert_eq!(paper.result().await.expect("a result"), 3);
}

#[tokio::test]
#[should_panic(
    expected = "the completion of the task Review.review, which was delegated; let the test call `complete_task`"
)]
async fn a_test_that_completes_nothing_fails_with_what_to_write() {
    let (booth, _tokens) = Booth::new();
    let env = env(booth);
    let _ = env.start::<Paper>("p", "plain".to_owned()).await.result().await;
}

async fn serve(partitura: &Partitura, booth: &Booth) -> RunningWorker {
    partitura.worker().service(ReviewService(booth.clone())).start().await.expect("a worker")
}

/// The worker dies after the token went out, before the broker has the word that the attempt was delegated.
async fn the_method_is_called_again(transactions: bool) {
    let clock = Virtual::new();
    let broker = embedded(&clock);
    let sound = || if transactions { Troubled::new(&broker) } else { Troubled::new(&broker).without_transactions() };
    let partitura = sound().engine(&clock).await;
    let conducting = partitura.worker().workflow::<Paper>().start().await.expect("a worker");
    let (booth, mut tokens) = Booth::new();
    let dying = sound();
    let troubles = dying.troubles.clone();
    let dying = serve(&dying.engine(&clock).await, &booth).await;
    let paper = partitura.client().workflow::<Paper>("p");
    troubles.cut_off();
    paper.start("timeout".to_owned()).await.expect("started");
    let (first, _) = next(&mut tokens).await;
    tokio::time::sleep(seconds(1)).await;
    drop(dying);
    let worker = serve(&partitura, &booth).await;
    let (again, _) = next(&mut tokens).await;
    // The same attempt: the owners of both copies can complete the task.
    assert_eq!(first, again);
    tokio::time::sleep(seconds(10)).await;
    partitura.client().complete_task(&first, &5).confirmed().await.expect("taken");
    assert_eq!(soon(paper.result()).await.expect("a result"), 5);
    assert!(tokens.try_recv().is_err());
    worker.stop().await.expect("stopped");
    conducting.stop().await.expect("stopped");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_lost_when_the_worker_dies_before_it_settles_what_it_delegated() {
    the_method_is_called_again(true).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_lost_when_the_worker_dies_before_it_settles_with_a_separate_store() {
    the_method_is_called_again(false).await;
}

/// Another owner takes over between the delegation and its time-out.
#[tokio::test(start_paused = true)]
async fn a_new_owner_watches_over_what_was_delegated_before() {
    let clock = Virtual::new();
    let broker = embedded(&clock);
    let partitura = Troubled::new(&broker).engine(&clock).await;
    let (booth, mut tokens) = Booth::new();
    let serving = serve(&partitura, &booth).await;
    let first_owner = partitura.worker().workflow::<Paper>().start().await.expect("a worker");
    let paper = partitura.client().workflow::<Paper>("p");
    paper.start("timeout".to_owned()).await.expect("started");
    let (first, _) = next(&mut tokens).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    first_owner.stop().await.expect("stopped");
    let second_owner = partitura.worker().workflow::<Paper>().start().await.expect("a worker");
    let (second, _) = next(&mut tokens).await;
    assert_eq!((first.attempt(), second.attempt()), (1, 2));
    partitura.client().complete_task(&second, &5).confirmed().await.expect("taken");
    assert_eq!(soon(paper.result()).await.expect("a result"), 5);
    serving.stop().await.expect("stopped");
    second_owner.stop().await.expect("stopped");
}

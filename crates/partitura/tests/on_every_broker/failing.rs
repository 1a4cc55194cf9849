//! Tasks and steps that fail, and what the workflow makes of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use partitura::{Cx, Retry, TaskContext, TaskError, Worker, WorkflowError, millis, seconds};

use crate::composing::outcome;
use crate::stage::Stage;
use crate::support::{Oops, TextStub};

/// Has a task that never returns, with a limit.
#[derive(Debug, Default)]
struct Impatient;

#[partitura::workflow]
impl Impatient {
    #[run]
    async fn run(cx: Cx<Self>, catches: bool) -> Result<String, TaskError<Oops>> {
        let hung = cx.service::<TextStub>().hang().timeout(millis(100)).retry(Retry::none()).await;
        match hung {
            Err(TaskError::TimedOut) if catches => Ok("caught".into()),
            other => other.map(|()| "no time-out".into()),
        }
    }
}

pub(crate) async fn a_task_that_takes_too_long_is_caught_or_fails_the_workflow(stage: Stage) {
    let register = |worker: Worker| worker.workflow::<Impatient>();
    assert_eq!(outcome::<Impatient>(&stage, register, true).await.expect("a result"), "caught");
    let failed = outcome::<Impatient>(&stage, register, false).await;
    assert!(matches!(failed, Err(WorkflowError::Failed(TaskError::TimedOut))), "{failed:?}");
}

/// Tries what fails in each way, and says how.
#[derive(Debug, Default)]
struct Unlucky;

#[partitura::workflow]
impl Unlucky {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<Vec<String>, Oops> {
        let texts = cx.service::<TextStub>();
        let mut said = Vec::new();
        match texts.refuse("thank you".into()).await {
            Err(TaskError::Failed(Oops::No(text))) => said.push(text),
            other => return Err(Oops::Task(format!("{other:?}"))),
        }
        let attempt = texts.busy_until(3).await?;
        said.push(attempt.to_string());
        let attempt = texts.panic_until(2).retry(Retry::fixed(millis(1)).max_attempts(2)).await?;
        said.push(attempt.to_string());
        match texts.panic_until(9).retry(Retry::none()).await {
            Err(TaskError::Panicked(text)) => said.push(text),
            other => return Err(Oops::Task(format!("{other:?}"))),
        }
        Ok(said)
    }
}

pub(crate) async fn errors_arrive_with_their_fields_and_policies_try_again(stage: Stage) {
    let said = outcome::<Unlucky>(&stage, |worker| worker.workflow::<Unlucky>(), ()).await.expect("a result");
    assert_eq!(said[..3], ["thank you", "3", "2"]);
    assert!(said[3].contains("attempt 1"), "{said:?}");
}

#[partitura::service]
trait Bank {
    /// Says when to ask again.
    async fn pay(&self, cents: u32) -> Result<u32, Oops>;
}

#[derive(Debug, Clone, Default)]
struct Busy(Arc<AtomicU32>);

impl Bank for Busy {
    async fn pay(&self, cents: u32) -> Result<u32, Oops> {
        if self.0.fetch_add(1, Ordering::SeqCst) == 0 {
            TaskContext::current().expect("inside of a task").retry_after(millis(300));
            return Err(Oops::Busy);
        }
        Ok(cents)
    }
}

/// Pays, and measures how long it took by its own clock.
#[derive(Debug, Default)]
struct Pays;

#[partitura::workflow]
impl Pays {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<bool, Oops> {
        let begun = cx.now();
        cx.service::<BankStub>().pay(5).retry_errors().await?;
        Ok(cx.now() >= begun + millis(300))
    }
}

pub(crate) async fn a_method_says_after_which_time_it_is_tried_again(stage: Stage) {
    let bank = Busy::default();
    let register = |worker: Worker| worker.service(BankService(bank.clone())).workflow::<Pays>();
    assert!(outcome::<Pays>(&stage, register, ()).await.expect("a result"), "too early");
    assert_eq!(bank.0.load(Ordering::SeqCst), 2);
}

/// Its first step fails, and the second one mends it.
#[derive(Debug, Default)]
struct Stepwise;

#[partitura::workflow]
impl Stepwise {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<String, Oops> {
        let failed = cx.step("fail", async { Err::<String, _>(Oops::No("step".into())) }).await;
        match failed {
            Err(TaskError::Failed(Oops::No(text))) => {
                Ok(cx.step("mend", async move { Ok::<_, Oops>(text + " mended") }).await?)
            }
            other => Err(Oops::Task(format!("{other:?}"))),
        }
    }
}

pub(crate) async fn a_step_fails_with_its_own_error(stage: Stage) {
    let said = outcome::<Stepwise>(&stage, |worker| worker.workflow::<Stepwise>(), ()).await;
    assert_eq!(said.expect("a result"), "step mended");
}

/// Nobody runs the service that it calls.
#[derive(Debug, Default)]
struct Lonely;

#[partitura::workflow]
impl Lonely {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(), TaskError<Oops>> {
        cx.service::<BankStub>().pay(1).start_timeout(seconds(1)).await.map(drop)
    }
}

pub(crate) async fn a_task_that_no_worker_takes_in_time_fails(stage: Stage) {
    let failed = outcome::<Lonely>(&stage, |worker| worker.workflow::<Lonely>(), ()).await;
    assert!(matches!(failed, Err(WorkflowError::Failed(TaskError::NotStarted))), "{failed:?}");
}

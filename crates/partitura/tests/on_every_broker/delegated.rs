//! Tasks whose results come from outside.

use std::time::Duration;

use partitura::{
    ClientError, Completion, Cx, Partitura, Retry, RunningWorker, TaskContext, TaskError, TaskToken, TokenRefusal,
    Waiting, WorkflowHandle, millis, seconds, select,
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::stage::{Stage, forgetful};
use crate::support::{eventually, soon};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
enum Refused {
    #[error("{0} said no")]
    By(String),
    #[error("the task: {0}")]
    Task(String),
}

#[partitura::service]
trait Approvals {
    /// A person decides.
    async fn approve(&self, order: String) -> Result<bool, Refused>;
}

/// Sends the tokens to the test.
struct Mail(UnboundedSender<TaskToken>);

impl Approvals for Mail {
    async fn approve(&self, _order: String) -> Result<bool, Refused> {
        let task = TaskContext::current().expect("a task");
        self.0.send(task.token()).expect("the test");
        task.delegate().await
    }
}

/// Waits for the approval of an order. Gives it up when it is told to.
#[derive(Debug, Default)]
struct Purchase;

#[partitura::workflow]
impl Purchase {
    #[run]
    async fn run(cx: Cx<Self>, timeout: Option<Duration>) -> Result<bool, Refused> {
        let mut task = cx.service::<ApprovalsStub>().approve("order".to_owned());
        if let Some(timeout) = timeout {
            task = task.timeout(timeout).retry(Retry::fixed(millis(10)));
        }
        let give_up = cx.channel::<()>("give up");
        let approved = select! {
            approved = task => Some(approved),
            _ = give_up.recv() => None,
        };
        match approved {
            Some(Ok(approved)) => Ok(approved),
            Some(Err(TaskError::Failed(refused))) => Err(refused),
            Some(Err(error)) => Err(Refused::Task(error.to_string())),
            // It lives on without the task.
            None => {
                let _ = give_up.recv().await;
                Ok(false)
            }
        }
    }
}

fn mail() -> (Mail, UnboundedReceiver<TaskToken>) {
    let (sender, receiver) = unbounded_channel();
    (Mail(sender), receiver)
}

async fn serve(partitura: &Partitura, mail: Mail) -> RunningWorker {
    let worker = partitura.worker().service(ApprovalsService(mail)).workflow::<Purchase>();
    worker.start().await.expect("a worker")
}

async fn begin(partitura: &Partitura, timeout: Option<Duration>) -> WorkflowHandle<Purchase> {
    let purchase = partitura.client().workflow::<Purchase>("p/1");
    purchase.start(timeout).await.expect("started");
    purchase
}

async fn until_delegated(purchase: &WorkflowHandle<Purchase>) {
    let is_delegated = |waiting: &Waiting| matches!(waiting, Waiting::Task { delegated: true, attempt: Some(1), .. });
    eventually(async || purchase.describe().await.ok().filter(|summary| summary.waiting.iter().any(is_delegated)))
        .await;
}

/// Sends a completion.
async fn sent(completion: Completion<'_>) -> Result<(), ClientError> {
    soon(completion.into_future()).await
}

fn refusal(result: Result<(), ClientError>) -> TokenRefusal {
    match result {
        Err(ClientError::TokenRefused { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn a_delegated_task_is_completed_once_from_another_process(stage: Stage) {
    let [partitura, other] = stage.processes(forgetful).await;
    let (mail, mut tokens) = mail();
    let worker = serve(&partitura, mail).await;
    let purchase = begin(&partitura, None).await;
    let token = soon(tokens.recv()).await.expect("a token");
    until_delegated(&purchase).await;
    // As it comes back with an e-mail.
    let token: TaskToken = token.to_string().parse().expect("a token");
    let client = other.client();
    soon(client.heartbeat_task(&token, &"read")).await.expect("wanted");
    sent(client.complete_task(&token, &true).confirmed()).await.expect("the first");
    assert_eq!(refusal(sent(client.complete_task(&token, &false).confirmed()).await), TokenRefusal::Completed);
    let no = Refused::By("Bob".to_owned());
    assert_eq!(refusal(sent(client.fail_task(&token, &no).confirmed()).await), TokenRefusal::Completed);
    assert_eq!(refusal(soon(client.heartbeat_task(&token, &"late")).await), TokenRefusal::Completed);
    assert!(soon(purchase.result()).await.expect("a result"));
    assert!(tokens.try_recv().is_err(), "called twice");
    worker.stop().await.expect("stopped");
}

pub(crate) async fn a_completion_waits_for_the_next_worker(stage: Stage) {
    let [first, second] = stage.processes(|settings| settings).await;
    let (mail_of_first, mut tokens) = mail();
    let worker = serve(&first, mail_of_first).await;
    let purchase = begin(&second, Some(seconds(3_600))).await;
    let token = soon(tokens.recv()).await.expect("a token");
    until_delegated(&purchase).await;
    worker.stop().await.expect("stopped");
    // Nobody is there; it is durable.
    sent(second.client().complete_task(&token, &true)).await.expect("sent");
    let (mail_of_second, mut none) = mail();
    let worker = serve(&second, mail_of_second).await;
    assert!(soon(purchase.result()).await.expect("a result"));
    assert!(none.try_recv().is_err() && tokens.try_recv().is_err(), "called twice");
    worker.stop().await.expect("stopped");
}

pub(crate) async fn an_attempt_that_was_given_up_is_not_completed(stage: Stage) {
    let [partitura, other] = stage.processes(forgetful).await;
    let (mail, mut tokens) = mail();
    let worker = serve(&partitura, mail).await;
    let purchase = begin(&partitura, Some(seconds(3))).await;
    let first = soon(tokens.recv()).await.expect("a token");
    let second = soon(tokens.recv()).await.expect("another token");
    assert_eq!((first.attempt(), second.attempt()), (1, 2));
    assert_eq!(first.idempotency_key(), second.idempotency_key());
    let client = other.client();
    let superseded = refusal(sent(client.complete_task(&first, &false).confirmed()).await);
    assert!(matches!(superseded, TokenRefusal::Superseded { latest } if latest >= 2), "{superseded:?}");
    // It may be given up meanwhile, too, where the broker is slow.
    let mut latest = second;
    while let Err(error) = sent(client.complete_task(&latest, &true).confirmed()).await {
        assert!(matches!(refusal(Err(error)), TokenRefusal::Superseded { .. }));
        latest = soon(tokens.recv()).await.expect("another token");
    }
    assert!(soon(purchase.result()).await.expect("a result"));
    worker.stop().await.expect("stopped");
}

pub(crate) async fn a_delegated_task_fails_with_the_error_of_its_method(stage: Stage) {
    let partitura = stage.application().await;
    let (mail, mut tokens) = mail();
    let worker = serve(&partitura, mail).await;
    // The policy is stated, and the answer is final.
    let purchase = begin(&partitura, Some(seconds(3_600))).await;
    let token = soon(tokens.recv()).await.expect("a token");
    let no = Refused::By("Bob".to_owned());
    sent(partitura.client().fail_task(&token, &no).confirmed()).await.expect("taken");
    match soon(purchase.result()).await {
        Err(partitura::WorkflowError::Failed(error)) => assert_eq!(error, no),
        other => panic!("{other:?}"),
    }
    assert_eq!(refusal(sent(partitura.client().complete_task(&token, &true).confirmed()).await), TokenRefusal::Failed);
    assert!(tokens.try_recv().is_err(), "tried again");
    worker.stop().await.expect("stopped");
}

pub(crate) async fn a_task_that_was_cancelled_is_not_completed(stage: Stage) {
    let partitura = stage.application().await;
    let (mail, mut tokens) = mail();
    let worker = serve(&partitura, mail).await;
    let purchase = begin(&partitura, None).await;
    let token = soon(tokens.recv()).await.expect("a token");
    let client = partitura.client();
    let give_up = || partitura::Signal::to_channel("give up", &());
    purchase.signal(give_up()).confirmed().await.expect("told");
    assert_eq!(refusal(soon(client.heartbeat_task(&token, &1)).await), TokenRefusal::Cancelled);
    assert_eq!(refusal(sent(client.complete_task(&token, &true).confirmed()).await), TokenRefusal::Cancelled);
    purchase.signal(give_up()).await.expect("told");
    assert!(!soon(purchase.result()).await.expect("a result"));
    // One of an instance that was never there.
    let unknown: TaskToken = token.to_string().replace("p/1", "p/2").parse().expect("a token");
    let answer = sent(client.complete_task(&unknown, &true).confirmed()).await;
    assert!(matches!(answer, Err(ClientError::NotFound { .. })), "{answer:?}");
    worker.stop().await.expect("stopped");
}

/// Its heartbeats come from outside, too, and end.
pub(crate) async fn a_delegated_task_that_is_heard_of_no_more_is_tried_again(stage: Stage) {
    let partitura = stage.application().await;
    let (mail, mut tokens) = mail();
    let worker = partitura.worker().service(ApprovalsService(mail)).workflow::<Watched>();
    let worker = worker.start().await.expect("a worker");
    let (client, watched) = (partitura.client(), partitura.client().workflow::<Watched>("w"));
    watched.start(()).await.expect("started");
    let first = soon(tokens.recv()).await.expect("a token");
    let mut latest = soon(tokens.recv()).await.expect("another token");
    assert_eq!((first.attempt(), latest.attempt()), (1, 2));
    assert!(matches!(refusal(soon(client.heartbeat_task(&first, &"late")).await), TokenRefusal::Superseded { .. }));
    while sent(client.complete_task(&latest, &true).confirmed()).await.is_err() {
        latest = soon(tokens.recv()).await.expect("another token");
    }
    assert!(soon(watched.result()).await.expect("a result"));
    worker.stop().await.expect("stopped");
}

/// Asks for a sign of life every second.
#[derive(Debug, Default)]
struct Watched;

#[partitura::workflow]
impl Watched {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<bool, Refused> {
        let approved = cx.service::<ApprovalsStub>().approve("order".to_owned());
        let approved = approved.heartbeat_timeout(seconds(1)).retry(Retry::fixed(millis(10)));
        approved.await.map_err(|error| Refused::Task(error.to_string()))
    }
}

pub(crate) async fn a_fork_asks_anew_for_a_task_in_flight(stage: Stage) {
    let partitura = stage.application().await;
    let (mail, mut tokens) = mail();
    let worker = serve(&partitura, mail).await;
    let purchase = begin(&partitura, None).await;
    let token = soon(tokens.recv()).await.expect("a token");
    let history = soon(purchase.history()).await.expect("a history");
    soon(partitura.client().instance("Purchase", "p/1").fork("p/2", history.len(), "ask another"))
        .await
        .expect("forked");
    let forked = soon(tokens.recv()).await.expect("a token of the fork");
    assert_ne!(forked.idempotency_key(), token.idempotency_key());
    sent(partitura.client().complete_task(&forked, &false).confirmed()).await.expect("completed");
    assert!(!soon(partitura.client().workflow::<Purchase>("p/2").result()).await.expect("a result"));
    sent(partitura.client().complete_task(&token, &true).confirmed()).await.expect("completed");
    assert!(soon(purchase.result()).await.expect("a result"));
    worker.stop().await.expect("stopped");
}

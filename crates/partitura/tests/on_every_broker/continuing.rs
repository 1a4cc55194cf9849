//! Runs that follow each other under one id.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use partitura::history::EventKind;
use partitura::{ChildError, Cx, Never, ReceiveError, Signal, Status, TaskError, WorkflowError, WorkflowHandle};
use serde::{Deserialize, Serialize};

use crate::stage::{Stage, forgetful};
use crate::support::{eventually, soon};

/// How far an account is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Balance {
    months: u32,
    total: u64,
}

#[partitura::service]
trait Bank {
    /// Books an amount, and gives it back.
    async fn book(&self, amount: u64) -> Result<u64, Never>;
}

#[derive(Debug, Default, Clone)]
struct Ledger(Arc<AtomicU32>);

impl Bank for Ledger {
    async fn book(&self, amount: u64) -> Result<u64, Never> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(amount)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
enum Broke {
    #[error("{0}")]
    Receive(ReceiveError),
    #[error("the bank: {0}")]
    Bank(String),
}

/// Books what is paid in, three payments in each run, and ends with the month in which nothing is paid.
#[derive(Debug, Default)]
struct Account;

#[partitura::workflow]
impl Account {
    #[run]
    async fn run(cx: Cx<Self>, balance: Balance) -> Result<Balance, Broke> {
        let mut balance = balance;
        let payments = cx.channel::<u64>("pay");
        for _ in 0..3 {
            let amount = payments.recv().await.map_err(Broke::Receive)?;
            let booked = cx.service::<BankStub>().book(amount).await;
            let amount = booked.map_err(|error: TaskError<Never>| Broke::Bank(error.to_string()))?;
            balance.total += amount;
            if amount == 0 {
                return Ok(balance);
            }
        }
        balance.months += 1;
        cx.continue_as_new(balance).await
    }
}

/// Awaits an account that is its child.
#[derive(Debug, Default)]
struct Owner;

#[partitura::workflow]
impl Owner {
    #[run]
    async fn run(cx: Cx<Self>, account: String) -> Result<Balance, ChildError<Broke>> {
        cx.child::<Account>(account).run(Balance { months: 0, total: 0 }).await
    }
}

async fn pay(account: &WorkflowHandle<Account>, amount: u64) {
    account.signal(Signal::to_channel("pay", &amount)).await.expect("sent");
}

const OPEN: Balance = Balance { months: 0, total: 0 };

pub(crate) async fn an_instance_continues_under_its_id_and_every_signal_counts_once(stage: Stage) {
    let [partitura] = stage.processes(forgetful).await;
    let ledger = Ledger::default();
    let worker = partitura.worker().service(BankService(ledger.clone())).workflow::<Account>();
    let worker = worker.start().await.expect("a worker");
    let account = partitura.client().workflow::<Account>("account");
    account.start(OPEN).await.expect("started");
    let first = soon(account.describe()).await.expect("known").run;
    // Three runs are full, and more comes at once than one of them takes.
    for amount in 1..=10 {
        pay(&account, amount).await;
    }
    pay(&account, 0).await;
    assert_eq!(soon(account.result()).await.expect("a result"), Balance { months: 3, total: 55 });
    assert_eq!(ledger.0.load(Ordering::SeqCst), 11);
    let described = soon(account.describe()).await.expect("known");
    assert_eq!((described.status, described.first_run.as_ref()), (Status::Completed, Some(&first)));
    assert_ne!(described.run, first);
    // The history is that of the last run.
    let history = soon(account.history()).await.expect("a history");
    let taken = history.iter().filter(|event| matches!(event.kind, EventKind::TaskScheduled { .. })).count();
    assert_eq!(taken, 2, "{history:?}");
    worker.stop().await.expect("stopped");
}

pub(crate) async fn a_parent_gets_the_result_of_the_last_run(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().service(BankService(Ledger::default())).workflow::<Account>().workflow::<Owner>();
    let worker = worker.start().await.expect("a worker");
    let (owner, account) = (partitura.client().workflow::<Owner>("o"), partitura.client().workflow::<Account>("child"));
    owner.start("child".into()).await.expect("started");
    eventually(async || account.describe().await.ok()).await;
    for amount in [5, 5, 5, 0] {
        pay(&account, amount).await;
    }
    assert_eq!(soon(owner.result()).await.expect("a result"), Balance { months: 1, total: 15 });
    worker.stop().await.expect("stopped");
}

pub(crate) async fn a_parent_that_is_cancelled_reaches_a_child_that_has_continued(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().service(BankService(Ledger::default())).workflow::<Account>().workflow::<Owner>();
    let worker = worker.start().await.expect("a worker");
    let (owner, account) = (partitura.client().workflow::<Owner>("o"), partitura.client().workflow::<Account>("child"));
    owner.start("child".into()).await.expect("started");
    let first = eventually(async || account.describe().await.ok()).await.run;
    for amount in [5, 5, 5] {
        pay(&account, amount).await;
    }
    eventually(async || account.describe().await.ok().filter(|summary| summary.run != first)).await;
    owner.cancel("enough").await.expect("sent");
    assert!(matches!(soon(owner.result()).await, Err(WorkflowError::Cancelled { .. })));
    assert!(matches!(soon(account.result()).await, Err(WorkflowError::Cancelled { .. })));
    worker.stop().await.expect("stopped");
}

//! The service that all workflows call. The call contains its answer, so that a model can know it.

use std::time::Duration;

use partitura::{Retry, TaskContext, TaskToken, millis};
use serde::{Deserialize, Serialize};

use crate::mutant::Mutant;
use crate::process::Process;

/// One call, and its course.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Call {
    pub(crate) name: String,
    /// Number of attempts that fail before one succeeds.
    pub(crate) fails: u32,
    /// They fail by a panic rather than by an error.
    pub(crate) panics: bool,
    /// The attempt that does not fail answers with an error.
    pub(crate) refused: bool,
    pub(crate) millis: u64,
    /// It ends its process.
    pub(crate) kills: bool,
}

/// A call with a load, and its course.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Parcel {
    pub(crate) name: String,
    pub(crate) load: String,
    /// Bytes of the answer.
    pub(crate) answer: usize,
    /// Bytes of the progress that the first attempt reports.
    pub(crate) progress: usize,
    /// Whether the first attempt fails, and the bytes of its error.
    pub(crate) error: Option<usize>,
}

/// The error of the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("busy")]
    Busy,
    #[error("no: {0}")]
    No(String),
}

impl Refusal {
    pub(crate) fn is_transient(&self) -> bool {
        *self == Self::Busy
    }
}

/// The largest number of attempts of a call.
pub(crate) const ATTEMPTS: u32 = 3;

/// The message of a panic.
pub(crate) const PANIC: &str = "out of tune";

#[partitura::service]
pub(crate) trait Player {
    /// Answers as the call says.
    #[task(retry = Retry::fixed(millis(50)).max_attempts(ATTEMPTS), retry_if = Refusal::is_transient)]
    async fn play(&self, call: Call) -> Result<String, Refusal>;
    /// Answers to several calls that come together.
    #[batch(max = 3, within_ms = 40)]
    #[limit(at_most = 4)]
    #[task(retry = Retry::fixed(millis(50)).max_attempts(ATTEMPTS), retry_if = Refusal::is_transient)]
    async fn join_in(&self, call: Vec<Call>) -> Vec<Result<String, Refusal>>;
    /// Undoes a call; at the second attempt where the name says so.
    #[task(retry = Retry::exponential().initial(millis(20)).max_attempts(9), retry_if = Refusal::is_transient)]
    async fn undo(&self, name: String) -> Result<(), Refusal>;
    /// Leaves its completion to others.
    async fn commission(&self, name: String) -> Result<String, Refusal>;
    /// Answers as the parcel says.
    #[task(
        retry = Retry::fixed(millis(50)).max_attempts(ATTEMPTS),
        retry_if = |_| true,
        heartbeat_timeout = millis(60_000)
    )]
    async fn haul(&self, call: Parcel) -> Result<String, Refusal>;
    /// Goes on until it is cancelled.
    #[task(heartbeat_timeout = millis(60_000))]
    async fn hold(&self, name: String) -> Result<(), Refusal>;
}

/// The service in one process.
#[derive(Debug)]
pub(crate) struct Musician(pub(crate) Process);

impl Musician {
    /// Notes the call in the world, and returns its attempt. `last` is the attempt that ends it, if
    /// that is known.
    async fn called(&self, what: String, last: Option<u32>) -> u32 {
        self.called_as(TaskContext::current(), what, last).await
    }

    async fn called_as(&self, task: Option<TaskContext>, what: String, last: Option<u32>) -> u32 {
        let (key, attempt) = task.map_or_else(Default::default, |task| (task.idempotency_key(), task.attempt()));
        let noted = what.clone();
        self.0
            .effect(format!("runs {what}, attempt {attempt}"), |state| {
                state.service_was_called((&key, attempt), noted, last);
            })
            .await;
        attempt
    }
}

impl Player for Musician {
    async fn play(&self, call: Call) -> Result<String, Refusal> {
        let attempt = self.called(format!("play({})", call.name), Some(ATTEMPTS.min(call.fails + 1))).await;
        tokio::time::sleep(Duration::from_millis(call.millis)).await;
        if call.kills {
            self.0.ends_by(&call.name).await;
        }
        if attempt <= call.fails {
            if call.panics {
                // Without the noise of the hook.
                std::panic::resume_unwind(Box::new(PANIC));
            }
            return Err(Refusal::Busy);
        }
        if call.refused { Err(Refusal::No(call.name)) } else { Ok(call.name + ".") }
    }

    async fn join_in(&self, call: Vec<Call>) -> Vec<Result<String, Refusal>> {
        let mut answers = Vec::new();
        let slowest = call.iter().map(|call| call.millis).max().unwrap_or(0);
        for (call, task) in call.into_iter().zip(TaskContext::batch()) {
            let last = Some(ATTEMPTS.min(call.fails + 1));
            let attempt = self.called_as(Some(task), format!("join_in({})", call.name), last).await;
            answers.push(match call {
                Call { fails, .. } if attempt <= fails => Err(Refusal::Busy),
                Call { refused: true, name, .. } => Err(Refusal::No(name)),
                Call { name, .. } => Ok(name + "."),
            });
        }
        tokio::time::sleep(Duration::from_millis(slowest)).await;
        if self.0.world.lock().is_mutant(Mutant::AnswersMixedUp) {
            answers.reverse();
        }
        answers
    }

    async fn undo(&self, name: String) -> Result<(), Refusal> {
        let late = name.ends_with('3');
        let attempt = self.called(format!("undo({name})"), Some(if late { 2 } else { 1 })).await;
        if late && attempt < 2 { Err(Refusal::Busy) } else { Ok(()) }
    }

    async fn commission(&self, name: String) -> Result<String, Refusal> {
        let Some(task) = TaskContext::current() else { return Ok(name) };
        let token = task.token();
        self.called(format!("commission({name})"), None).await;
        self.0
            .effect(format!("hands {token} out"), |state| {
                let tokens = state.audit.tokens.entry(task.workflow_id().to_owned()).or_default();
                if !tokens.contains(&token) {
                    tokens.push(token.clone());
                    tokens.sort_by_key(TaskToken::attempt);
                }
            })
            .await;
        task.delegate().await
    }

    async fn haul(&self, call: Parcel) -> Result<String, Refusal> {
        let may_be_lost = !self.0.world.lock().plan.faultless;
        let last = if call.error.is_some() { 2 } else { 1 };
        let attempt = self.called(format!("haul({})", call.name), (!may_be_lost).then_some(last)).await;
        if attempt > 1 {
            return Ok("a".repeat(call.answer));
        }
        if let Some(task) = TaskContext::current() {
            // A text can be encoded.
            let _ = task.heartbeat(&"p".repeat(call.progress));
        }
        tokio::time::sleep(millis(1_500)).await;
        match call.error {
            Some(bytes) => Err(Refusal::No("e".repeat(bytes))),
            None => Ok("a".repeat(call.answer)),
        }
    }

    async fn hold(&self, name: String) -> Result<(), Refusal> {
        // Its worker counts as lost when it was silent for long.
        let may_be_lost = !self.0.world.lock().plan.faultless;
        self.called(format!("hold({name})"), (!may_be_lost).then_some(1)).await;
        let Some(task) = TaskContext::current() else { return Ok(()) };
        loop {
            // The name can be encoded.
            let _ = task.heartbeat(&name);
            tokio::select! {
                biased;
                () = task.cancelled() => return Ok(()),
                () = tokio::time::sleep(millis(500)) => {}
            }
        }
    }
}

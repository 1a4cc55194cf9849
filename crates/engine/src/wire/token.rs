use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The version of the text that a token is.
const VERSION: &str = "1";

/// Names one attempt of a task, for those who complete the task from outside: see
/// [`TaskContext::delegate`](crate::TaskContext::delegate).
///
/// It is plain text (`Display` and `FromStr`; serde has it as a string) of printable characters, to be kept in a
/// database or sent in an e-mail. In a URL it has to be percent-encoded, since ids of instances may contain anything.
/// It is no secret: it consists of the names that logs and events show, and every client of the broker can complete any
/// task. Do not take it as a proof that its sender may do so.
///
/// ```
/// # use partitura_engine::TaskToken;
/// let text = "1.0190163d-8694-739b-aea5-966c26f8ad91.7.1.Checkout/order-42";
/// let token: TaskToken = text.parse().unwrap();
/// assert_eq!((token.workflow(), token.workflow_id(), token.attempt()), ("Checkout", "order-42", 1));
/// assert_eq!(token.to_string(), text);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TaskToken {
    pub(crate) workflow: String,
    pub(crate) id: String,
    pub(crate) run: String,
    pub(crate) seq: u32,
    pub(crate) attempt: u32,
}

impl TaskToken {
    /// The name of the workflow that asked for the task.
    pub fn workflow(&self) -> &str {
        &self.workflow
    }

    /// The id of the workflow that asked for the task.
    pub fn workflow_id(&self) -> &str {
        &self.id
    }

    /// The attempt, from 1.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The same for every attempt of the task: that of
    /// [`TaskContext::idempotency_key`](crate::TaskContext::idempotency_key).
    pub fn idempotency_key(&self) -> String {
        format!("{}.{}", self.run, self.seq)
    }
}

impl fmt::Display for TaskToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { workflow, id, run, seq, attempt } = self;
        write!(f, "{VERSION}.{run}.{seq}.{attempt}.{workflow}/{id}")
    }
}

/// A text that is not a [`TaskToken`], or one of a newer version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a token of a task: {0:?}; a token is the text that `TaskToken` shows, whole and unchanged")]
pub struct InvalidToken(String);

impl FromStr for TaskToken {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        read(text).ok_or_else(|| InvalidToken(text.chars().take(200).collect()))
    }
}

/// Names of workflows contain no slash, runs and numbers no dot.
fn read(text: &str) -> Option<TaskToken> {
    let parts: Vec<&str> = text.splitn(5, '.').collect();
    let [VERSION, run, seq, attempt, instance] = parts[..] else { return None };
    let (workflow, id) = instance.split_once('/')?;
    let is_whole = [run, workflow, id].iter().all(|part| !part.is_empty());
    let (seq, attempt) = (seq.parse().ok()?, attempt.parse().ok()?);
    let (workflow, id, run) = (workflow.to_owned(), id.to_owned(), run.to_owned());
    is_whole.then_some(TaskToken { workflow, id, run, seq, attempt })
}

impl TryFrom<String> for TaskToken {
    type Error = InvalidToken;

    fn try_from(text: String) -> Result<Self, InvalidToken> {
        text.parse()
    }
}

impl From<TaskToken> for String {
    fn from(token: TaskToken) -> Self {
        token.to_string()
    }
}

/// Why a [`TaskToken`] has no effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum TokenRefusal {
    /// The task has its result already: perhaps by this token.
    #[error("has its result already")]
    Completed,
    /// The task has failed already: by this token, by a time-out, or because its attempts are used up.
    #[error("has failed already")]
    Failed,
    /// The workflow no longer wants the task.
    #[error("was cancelled")]
    Cancelled,
    /// Another attempt has taken the place of the token's.
    #[error("is at attempt {latest}, which has a token of its own")]
    Superseded {
        /// The latest attempt.
        latest: u32,
    },
    /// The run has no such task.
    #[error("is not known")]
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_its_text_whatever_the_id_is() {
        for id in ["o", "a/b.c", "1.2.3.4/x", "é \"→\" \\"] {
            let (workflow, id, run) = ("Shop.v-2_a".to_owned(), id.to_owned(), "0190-ab".to_owned());
            let token = TaskToken { workflow, id, run, seq: 7, attempt: 2 };
            assert_eq!(token.to_string().parse(), Ok(token.clone()));
            let json = serde_json::to_string(&token).expect("text");
            assert_eq!(serde_json::from_str::<TaskToken>(&json).expect("a token"), token);
        }
    }

    #[test]
    fn what_is_no_token_is_refused_with_what_it_is() {
        for text in ["", "1", "1.run.7.1.Shop", "2.run.7.1.Shop/o", "1.run.x.1.Shop/o", "1..7.1.Shop/o", "1.run.7.1./o"]
        {
            let error = text.parse::<TaskToken>().expect_err("refused").to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }
}

use partitura::TaskError;
use serde::{Deserialize, Serialize};

use crate::random::Random;
use crate::service::{ATTEMPTS, Call, PANIC, Refusal};

/// The name of the call that ends its process.
pub(crate) const KILLER: &str = "killer";

/// The error of the catalogue's workflows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum Upset {
    #[error("refused: {0}")]
    Refused(String),
    #[error("busy")]
    Busy,
    #[error("panicked: {0}")]
    Panicked(String),
    #[error("cancelled")]
    Cancelled,
    #[error("given up: it ends its process")]
    Fatal,
    #[error("{0}")]
    Other(String),
}

impl From<TaskError<Refusal>> for Upset {
    fn from(error: TaskError<Refusal>) -> Self {
        match error {
            TaskError::Failed(Refusal::No(name)) => Self::Refused(name),
            TaskError::Failed(Refusal::Busy) => Self::Busy,
            TaskError::Panicked(message) => Self::Panicked(message),
            TaskError::Cancelled => Self::Cancelled,
            TaskError::WorkerLost => Self::Fatal,
            other => Self::Other(other.to_string()),
        }
    }
}

impl From<partitura::SendError> for Upset {
    fn from(error: partitura::SendError) -> Self {
        Self::Other(error.to_string())
    }
}

impl From<partitura::Cancelled> for Upset {
    fn from(_: partitura::Cancelled) -> Self {
        Self::Cancelled
    }
}

impl Call {
    pub(super) fn draw(random: &mut Random, number: usize) -> Self {
        Self {
            name: format!("c{number}"),
            fails: random.pick(&[0, 0, 0, 0, 1, 2, 9]),
            panics: random.chance(300),
            refused: random.chance(100),
            millis: random.pick(&[0, 0, 5, 300, 2_000]),
            kills: false,
        }
    }

    pub(super) fn draw_some(random: &mut Random, most: u64) -> Vec<Self> {
        (0..random.between(1, most) as usize).map(|number| Self::draw(random, number)).collect()
    }

    /// A call that ends its process.
    fn that_kills(random: &mut Random) -> Self {
        let millis = random.pick(&[0, 0, 5, 300]);
        Self { name: KILLER.to_owned(), fails: 0, panics: false, refused: false, millis, kills: true }
    }

    /// Some calls, of which one ends its process.
    pub(super) fn draw_with_killer(random: &mut Random, most: u64) -> Vec<Self> {
        let mut calls = Self::draw_some(random, most);
        let at = random.below(calls.len() as u64 + 1) as usize;
        calls.insert(at, Self::that_kills(random));
        calls
    }

    /// The model of the service.
    pub(super) fn answer(&self) -> Result<String, Upset> {
        if self.kills {
            return Err(Upset::Fatal);
        }
        if self.fails >= ATTEMPTS {
            return Err(if self.panics { Upset::Panicked(PANIC.to_owned()) } else { Upset::Busy });
        }
        if self.refused { Err(Upset::Refused(self.name.clone())) } else { Ok(format!("{}.", self.name)) }
    }

    pub(super) fn played(&self) -> String {
        format!("play({})", self.name)
    }
}

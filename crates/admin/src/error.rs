use std::time::Duration;

use partitura_engine::ClientError;

/// Why a question was not answered, or an action not carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// There is no such instance.
    #[error("there is no instance {workflow}/{id}: it was never started, or it was deleted")]
    NotFound {
        /// The workflow's name.
        workflow: String,
        /// The instance's id.
        id: String,
    },
    /// It took too long.
    #[error("{what}: no answer within {limit:?}; is the store reachable, and not overloaded?")]
    Timeout {
        /// The question.
        what: &'static str,
        /// For how long it was waited.
        limit: Duration,
    },
    /// It cannot be done, and why.
    #[error("{0}")]
    Refused(String),
    /// The broker or the store.
    #[error(transparent)]
    Client(ClientError),
}

impl From<ClientError> for AdminError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::NotFound { workflow, id } => Self::NotFound { workflow, id },
            ClientError::Ended { .. }
            | ClientError::AnotherRun { .. }
            | ClientError::AlreadyExists { .. }
            | ClientError::Refused(_)
            | ClientError::InvalidId(_)
            | ClientError::TooLarge { .. }
            | ClientError::NoAnswer { .. }
            | ClientError::Payload(_) => Self::Refused(error.to_string()),
            error => Self::Client(error),
        }
    }
}

impl From<partitura_broker::Error> for AdminError {
    fn from(error: partitura_broker::Error) -> Self {
        Self::Client(error.into())
    }
}

//! Why the command failed, and the code that it exits with.

use std::fmt;

use partitura::{ClientError, Error};
use partitura_admin::AdminError;

/// A failure, as it is told to people and to scripts.
#[derive(Debug)]
pub(crate) struct Failure {
    text: String,
    /// 1: it failed. 2: it was asked for wrongly. 3: there is no such instance. 4: it was refused. 5: something is
    /// wrong with the deployment.
    pub(crate) code: u8,
    /// The reader of the output has enough.
    pub(crate) is_closed_pipe: bool,
}

impl Failure {
    fn new(text: impl Into<String>, code: u8) -> Self {
        Self { text: text.into(), code, is_closed_pipe: false }
    }

    pub(crate) fn failed(text: impl Into<String>) -> Self {
        Self::new(text, 1)
    }

    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::new(text, 2)
    }

    /// A problem that `doctor` found.
    pub(crate) fn found(text: impl Into<String>) -> Self {
        Self::new(text, 5)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<AdminError> for Failure {
    fn from(error: AdminError) -> Self {
        let code = match &error {
            AdminError::NotFound { .. } => 3,
            AdminError::Refused(_) => 4,
            _ => 1,
        };
        Self::new(error.to_string(), code)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        AdminError::from(error).into()
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::failed(error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        let is_closed_pipe = error.kind() == std::io::ErrorKind::BrokenPipe;
        Self { is_closed_pipe, ..Self::failed(format!("write what was asked for: {error}")) }
    }
}

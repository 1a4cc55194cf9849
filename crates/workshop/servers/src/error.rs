//! Errors, with the next thing to do.

use std::error::Error as _;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// The reason why a server is not in the requested state. Its text says what to do next.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A program that cannot be installed from here is not on the machine.
    #[error("{server} needs `{program}`, which is not on this machine: {remedy}")]
    Missing {
        /// The server that needs it.
        server: String,
        /// The missing program.
        program: &'static str,
        /// The text that says how to install it.
        remedy: String,
    },
    /// A program that prepares or installs the server has failed.
    #[error("{server}: `{command}` failed, {status}:\n{output}")]
    Command {
        /// For whom.
        server: String,
        /// The command, as typed in a shell.
        command: String,
        /// Its exit status.
        status: String,
        /// The last lines that it wrote.
        output: String,
    },
    /// A program could not be started at all.
    #[error("{server}: cannot start `{program}`")]
    Spawn {
        /// For whom.
        server: String,
        /// Which program.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// A file of the server could not be read or written.
    #[error("cannot {action} {}", path.display())]
    File {
        /// `read`, `write` and the like.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The chosen version is not available.
    #[error("{server}: there is no such version to choose: {remedy}")]
    NoSuchVersion {
        /// The server.
        server: String,
        /// The available versions.
        remedy: String,
    },
    /// Another version of the server is up, and has the ports.
    #[error(
        "{server} and {rival} have the same ports, and {rival} is up; stop that first (`cargo xtask brokers down {rival}`)"
    )]
    Rival {
        /// The server that needs the ports.
        server: String,
        /// The server that has the ports.
        rival: String,
    },
    /// Another program listens on a port of the server.
    #[error("{server}: port {port} of 127.0.0.1 is taken by another program; stop that, then try again")]
    PortTaken {
        /// The server that needs the port.
        server: String,
        /// Which port.
        port: u16,
    },
    /// The server ended before it was ready.
    #[error("{server} ended while it started; the end of {}:\n{tail}", log.display())]
    Ended {
        /// Which server.
        server: String,
        /// Its whole log.
        log: PathBuf,
        /// The last lines of the log.
        tail: String,
    },
    /// The server runs, and does not answer.
    #[error("{server} was not ready after {} s; the end of {}:\n{tail}", waited.as_secs(), log.display())]
    NotReady {
        /// Which server.
        server: String,
        /// The time for which it was waited for.
        waited: Duration,
        /// Its whole log.
        log: PathBuf,
        /// The last lines of the log.
        tail: String,
    },
    /// The server cannot be killed, since it does not run.
    #[error("{server} is not running; start it with `up`")]
    NotRunning {
        /// Which server.
        server: String,
    },
    /// The environment variable `PARTITURA_SERVERS` names no way to run servers.
    #[error("PARTITURA_SERVERS is {choice:?}; it may be `native` or `docker`, or not be set at all")]
    UnknownChoice {
        /// The value of the variable.
        choice: String,
    },
    /// Servers should run in containers, and there is no engine for them.
    #[error("{server} is to run in a container, but {reason}; start a Docker engine, or set PARTITURA_SERVERS=native")]
    NoEngine {
        /// Which server.
        server: String,
        /// The reason why there is no engine.
        reason: String,
    },
    /// The data belongs to a server that ran in the other way, perhaps in another version.
    #[error(
        "{server} was begun the {begun} way, and PARTITURA_SERVERS asks for the {chosen} one: remove its data with \
         `cargo xtask brokers down --wipe` (with `Server::down(true)` if it is a test's own), or do without the variable"
    )]
    BegunElsewhere {
        /// Which server.
        server: String,
        /// The way in which it was begun.
        begun: &'static str,
        /// The requested way.
        chosen: &'static str,
    },
    /// The process does not end, even after SIGKILL.
    #[error("{server}: process {pid} does not end")]
    Immortal {
        /// Which server.
        server: String,
        /// Its process.
        pid: u32,
    },
}

/// Prints the text with its causes, line by line: a test that returns the error shows this.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        let mut cause = self.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl Error {
    /// For `map_err` on operations on a file.
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_shown_with_its_cause_and_its_line_breaks() {
        let file = Error::file("read", Path::new("a"))(std::io::Error::other("no"));
        assert_eq!(format!("{file:?}"), "cannot read a: no");
        let (server, log, tail) = ("nats".to_owned(), PathBuf::from("log"), "one\ntwo".to_owned());
        let ended = Error::Ended { server, log, tail };
        assert_eq!(format!("{ended:?}"), "nats ended while it started; the end of log:\none\ntwo");
    }
}

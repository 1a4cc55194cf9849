//! The servers by name.

use std::fmt;
use std::str::FromStr;

/// A server that this crate can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Kind {
    /// Apache Artemis, one node.
    Artemis,
    /// Apache Kafka, one node that is broker and controller.
    Kafka,
    /// Apache Pulsar, standalone.
    Pulsar,
    /// RabbitMQ, in the version of this machine's Debian or of another release.
    Rabbitmq,
    /// NATS with JetStream.
    Nats,
    /// PostgreSQL, in Debian's version.
    Postgres,
}

impl Kind {
    /// All kinds. Those that take longest to start come first.
    pub fn all() -> [Self; 6] {
        [Self::Pulsar, Self::Kafka, Self::Rabbitmq, Self::Artemis, Self::Postgres, Self::Nats]
    }

    /// The name in directories, in URLs' examples and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Artemis => "artemis",
            Self::Kafka => "kafka",
            Self::Pulsar => "pulsar",
            Self::Rabbitmq => "rabbitmq",
            Self::Nats => "nats",
            Self::Postgres => "postgres",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(name: &str) -> Result<Self, UnknownKind> {
        Self::all().into_iter().find(|kind| kind.name() == name).ok_or_else(|| UnknownKind { name: name.to_owned() })
    }
}

/// No server has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no server is called {name:?}; there are artemis, kafka, pulsar, rabbitmq, nats and postgres")]
pub struct UnknownKind {
    name: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_parsed_from_what_it_is_displayed_as() {
        for kind in Kind::all() {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
    }

    #[test]
    fn a_stranger_is_refused_with_the_names_that_exist() {
        let refusal = "rabbit".parse::<Kind>().expect_err("there is no such kind").to_string();
        for kind in Kind::all() {
            assert!(refusal.contains(kind.name()), "{refusal} does not name {kind}");
        }
    }
}

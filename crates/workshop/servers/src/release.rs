//! A server and its version, as one word.

use std::fmt;
use std::str::FromStr;

use crate::kind::{Kind, UnknownKind};

/// The environment variable with the versions of the servers, for this process and those that it starts: `kafka@3.7.2
/// pulsar@3.0.7`.
pub const VERSIONS: &str = "PARTITURA_VERSIONS";

/// A server to run: `kafka`, or `kafka@3.7.2` for that version.
///
/// Without a version it is the one that the environment variable [`VERSIONS`] names, else the version that is tested
/// with every change. So a test program runs on another version without being changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Release {
    kind: Kind,
    version: Option<String>,
}

impl Release {
    /// The kind of server.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its version, if one was chosen.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// Its version, if one was chosen, or else the usual one.
    pub(crate) fn version_or<'r>(&'r self, usual: &'r str) -> &'r str {
        self.version().unwrap_or(usual)
    }

    /// The name of its software in that version, which is also the directory where it is installed.
    pub(crate) fn software(&self, usual: &str) -> String {
        format!("{}-{}", self.kind, self.version_or(usual))
    }

    /// Adds the version of the environment, if this one has none.
    pub(crate) fn or_chosen(self) -> Self {
        let chosen = std::env::var(VERSIONS).unwrap_or_default();
        self.or_one_of(&chosen)
    }

    fn or_one_of(self, chosen: &str) -> Self {
        let version =
            || chosen.split_whitespace().find_map(|word| word.strip_prefix(self.kind.name())?.strip_prefix('@'));
        let version = self.version.clone().or_else(|| version().map(str::to_owned));
        Self { version, ..self }
    }

    /// The name of the directory for its data, which other versions may not understand.
    pub(crate) fn name(&self) -> String {
        match &self.version {
            Some(version) => format!("{}-{version}", self.kind),
            None => self.kind.to_string(),
        }
    }

    /// Returns the release whose directory has this name. A directory of a private instance has none.
    pub(crate) fn named(name: &str) -> Option<Self> {
        name.replacen('-', "@", 1).parse().ok()
    }
}

impl From<Kind> for Release {
    fn from(kind: Kind) -> Self {
        Self { kind, version: None }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Some(version) => write!(f, "{}@{version}", self.kind),
            None => self.kind.fmt(f),
        }
    }
}

impl FromStr for Release {
    type Err = UnknownRelease;

    fn from_str(text: &str) -> Result<Self, UnknownRelease> {
        let Some((kind, version)) = text.split_once('@') else {
            return Ok(text.parse::<Kind>()?.into());
        };
        let is_version = version.starts_with(|c: char| c.is_ascii_digit())
            && version.chars().all(|c| c.is_ascii_digit() || c == '.');
        if !is_version {
            return Err(UnknownRelease::Version { text: text.to_owned() });
        }
        Ok(Self { kind: kind.parse()?, version: Some(version.to_owned()) })
    }
}

/// No such server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnknownRelease {
    /// Its name is not known.
    #[error(transparent)]
    Kind(#[from] UnknownKind),
    /// The text after the name is not a version.
    #[error("{text:?} names no version; it is written like kafka@3.7.2, in numbers and dots")]
    Version {
        /// The text.
        text: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(text: &str) -> Release {
        text.parse().expect("well formed")
    }

    #[test]
    fn a_release_is_parsed_from_what_it_is_displayed_as() {
        for text in ["nats", "kafka@3.7.2"] {
            assert_eq!(release(text).to_string(), text);
        }
        assert_eq!((release("kafka@3.7.2").kind(), release("kafka@3.7.2").version()), (Kind::Kafka, Some("3.7.2")));
    }

    #[test]
    fn what_is_no_server_or_no_version_is_refused() {
        assert!(matches!("rabbit@3".parse::<Release>(), Err(UnknownRelease::Kind(_))));
        for text in ["kafka@", "kafka@latest", "kafka@../3"] {
            assert!(matches!(text.parse::<Release>(), Err(UnknownRelease::Version { .. })), "{text}");
        }
    }

    #[test]
    fn a_directory_tells_which_release_it_is_of_and_whether_it_is_somebodys_own() {
        for text in ["kafka", "kafka@3.7.2"] {
            assert_eq!(Release::named(&release(text).name()), Some(release(text)));
        }
        for own in ["kafka-scenario", "kafka-3.7.2-scenario", "kafka-cluster", "software"] {
            assert_eq!(Release::named(own), None, "{own}");
        }
    }

    #[test]
    fn the_environment_decides_where_no_version_was_named() {
        let chosen = "pulsar@3.0.7 kafka@3.7.2";
        assert_eq!(release("kafka").or_one_of(chosen), release("kafka@3.7.2"));
        assert_eq!(release("kafka@4.0.0").or_one_of(chosen), release("kafka@4.0.0"));
        assert_eq!(release("nats").or_one_of(chosen), release("nats"));
    }
}

use std::sync::Arc;

use bytes::Bytes;
use partitura_broker::{Error, ErrorKind, InvalidName, Result, ScanRange, TopicName};

/// Keeps apart the topics, and the stored keys, of applications that share a broker or a store.
///
/// Without a name, topics and keys are what they always were. Keys of a namespace begin with NUL, which no workflow's
/// name does, so that nobody scans what is another's.
#[derive(Debug, Clone, Default)]
pub(crate) struct Namespace(Option<Arc<str>>);

impl Namespace {
    pub(crate) fn new(name: String) -> Self {
        Self(Some(name.into()))
    }

    /// Refuses a name that topics cannot be called after.
    pub(crate) fn check(&self) -> Result<()> {
        let Some(name) = &self.0 else { return Ok(()) };
        TopicName::new(name).map(drop).map_err(|InvalidName { name, reason, .. }| {
            let message = format!(
                "{name:?} cannot be a namespace: {reason}; use the characters A–Z a–z 0–9 . _ -, beginning with a letter \
                 or digit"
            );
            Error::new(ErrorKind::InvalidArgument, "connect", message)
        })
    }

    /// The full name of a topic.
    pub(crate) fn topic(&self, name: String) -> String {
        match &self.0 {
            Some(namespace) => format!("{namespace}.{name}"),
            None => name,
        }
    }

    fn prefix(&self) -> Vec<u8> {
        self.0.as_ref().map_or_else(Vec::new, |name| [b"\0", name.as_bytes(), b"\0"].concat())
    }

    /// A key as the store has it.
    pub(crate) fn key(&self, key: &Bytes) -> Bytes {
        match self.0 {
            Some(_) => [&self.prefix(), &key[..]].concat().into(),
            None => key.clone(),
        }
    }

    /// A key without what [`key`](Self::key) put before it.
    pub(crate) fn strip(&self, key: Bytes) -> Bytes {
        let prefix = self.prefix();
        if key.starts_with(&prefix) { key.slice(prefix.len()..) } else { key }
    }

    /// The keys of a range that are of this namespace, as the store has them.
    pub(crate) fn range(&self, range: ScanRange) -> ScanRange {
        let ScanRange { space, from, to } = range;
        match self.0 {
            Some(_) => {
                let to = to.map(|to| self.key(&to)).or_else(|| ScanRange::prefix(space, self.prefix()).to);
                ScanRange { space, from: self.key(&from), to }
            }
            None => ScanRange { space, from: from.max(Bytes::from_static(b"\x01")), to },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a store does.
    fn holds(range: &ScanRange, key: &Bytes) -> bool {
        *key >= range.from && range.to.as_ref().is_none_or(|to| key < to)
    }

    #[test]
    fn each_namespace_scans_its_own_keys_and_no_others() {
        let namespaces = [Namespace::default(), Namespace::new("a".into()), Namespace::new("ab".into())];
        let key = Bytes::from_static(b"Workflow\0id");
        for mine in &namespaces {
            let ranges = [ScanRange::prefix("s", Bytes::new()), ScanRange::prefix("s", &b"Workflow\0"[..])];
            for range in ranges.map(|range| mine.range(range)) {
                for other in &namespaces {
                    let is_mine = std::ptr::eq(mine, other);
                    assert_eq!(holds(&range, &other.key(&key)), is_mine, "{mine:?} scans {other:?}");
                }
            }
            assert_eq!(mine.strip(mine.key(&key)), key);
        }
    }

    #[test]
    fn topics_are_called_after_their_namespace() {
        assert_eq!(Namespace::new("staging".into()).topic("t".into()), "staging.t");
        assert_eq!(Namespace::default().topic("t".into()), "t");
    }
}

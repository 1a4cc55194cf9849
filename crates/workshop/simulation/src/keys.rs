//! Versioned key-values: the state of workflows, in the broker or in a store.

use bytes::Bytes;
use partitura::history::{Event, EventKind};
use partitura_broker::{Entry, Error, ErrorKind, Expect, Put, Result, ScanRange, Space, Version};

use crate::mutant::Mutant;
use crate::rows::{body, row};
use crate::world::State;

impl State {
    /// Writes all of a group, or nothing. This decision is final, and the audit checks it.
    pub(crate) fn write(&mut self, group: &[Put]) -> Result<()> {
        if let Some(put) = group.iter().find(|put| !self.holds(put))
            && !self.is_mutant(Mutant::FenceOff)
        {
            let key = show(put);
            self.note("state", format_args!("conflict at {key}"));
            return Err(Error::new(ErrorKind::Conflict, "write", "it is not what was expected").of(key));
        }
        let sends_again = group.iter().any(|put| put.space == "outbox");
        for put in group {
            if put.space == "refused" && put.value.is_none() && sends_again && self.is_mutant(Mutant::AsideKept) {
                continue;
            }
            let is_lost = match put.space {
                "outbox" => self.is_mutant(Mutant::OutboxLost),
                "heartbeats" => self.is_mutant(Mutant::DelegationsForgotten),
                "children" => self.is_mutant(Mutant::ChildrenForgotten),
                "crashes" => self.is_mutant(Mutant::CrashesForgotten),
                _ => false,
            };
            if is_lost && put.value.is_some() {
                continue;
            }
            self.put(put);
        }
        Ok(())
    }

    /// Writes one value.
    pub(crate) fn put(&mut self, put: &Put) {
        let (key, text) = ((put.space, put.key.clone()), show(put));
        self.note("state", format_args!("{} {text}", if put.value.is_some() { "keeps" } else { "forgets" }));
        match &put.value {
            Some(value) => {
                let value = &self.sabotaged(put.space, value);
                let version = self.keys.kept.get(&key).map_or(1, |(version, _)| version + 1);
                if put.space == "history" {
                    self.history_was_written(&put.key, version, value);
                }
                if put.space == "instances" {
                    self.audit.summary_was_written(value);
                }
                self.keys.latest = Some(key.clone());
                if let Some(before) = self.keys.kept.insert(key.clone(), (version, value.clone()))
                    && self.is_mutant(Mutant::TornReads)
                {
                    self.keys.before.insert(key, before);
                }
            }
            None if put.space == "outbox" && self.is_mutant(Mutant::OutboxKept) => {}
            None if put.space == "index" && self.is_mutant(Mutant::IndexForgotten) => {}
            None if put.space == "history" && self.is_mutant(Mutant::DeletedHalf) => {}
            None => {
                if let Some((_, value)) = self.keys.kept.remove(&key) {
                    self.was_deleted(put.space, &put.key, value);
                }
            }
        }
    }

    fn holds(&self, put: &Put) -> bool {
        let found = self.keys.kept.get(&(put.space, put.key.clone())).map(|(version, _)| *version);
        match put.expect {
            Expect::Any => true,
            Expect::Absent => found.is_none(),
            Expect::Version(version) => found == Some(version),
        }
    }

    /// Returns a value as a mutant changes it.
    fn sabotaged(&self, space: Space, value: &Bytes) -> Bytes {
        if space == "crashes" && self.is_mutant(Mutant::CrashesDoubled) {
            let crashes: u32 = serde_json::from_slice(value).unwrap_or_default();
            return crashes.saturating_mul(2).to_string().into();
        }
        let (versions, signals) =
            (self.is_mutant(Mutant::VersionsForgotten), self.is_mutant(Mutant::SignalsLeftBehind));
        if space != "history" || !(versions || signals) {
            return value.clone();
        }
        let mut turn: Vec<Event> = body(value).unwrap_or_default();
        turn.retain(|event| !(versions && matches!(event.kind, EventKind::VersionMarked { .. })));
        for event in turn.iter_mut().filter(|_| signals) {
            if let EventKind::WorkflowStarted(started) = &mut event.kind
                && let Some(continued) = &mut started.continued
            {
                continued.signals.clear();
            }
        }
        row(turn)
    }

    pub(crate) fn read(&self, space: Space, key: Bytes) -> Option<(Version, Bytes)> {
        let key = (space, key);
        let before = self.keys.before.get(&key).filter(|_| space == "instances");
        before.or_else(|| self.keys.kept.get(&key)).cloned()
    }

    pub(crate) fn scan(&self, range: &ScanRange, limit: usize) -> Vec<Entry> {
        let from = (range.space, range.from.clone());
        let within = |key: &Bytes| range.to.as_ref().is_none_or(|to| key < to);
        let mut found: Vec<Entry> = self
            .keys
            .kept
            .range(from..)
            .take_while(|((space, key), _)| *space == range.space && within(key))
            .take(limit)
            .map(|((_, key), (version, value))| Entry { key: key.clone(), version: *version, value: value.clone() })
            .collect();
        if self.is_mutant(Mutant::StaleReads) {
            found.retain(|entry| self.keys.latest.as_ref() != Some(&(range.space, entry.key.clone())));
        }
        found
    }
}

/// A key, as text for people.
pub(crate) fn show(put: &Put) -> String {
    let mut text = format!("{}:", put.space);
    let name = match put.space {
        "history" | "outbox" if put.key.len() > 4 => put.key.split_at(put.key.len() - 4),
        _ => (&put.key[..], &[][..]),
    };
    text.push_str(&String::from_utf8_lossy(name.0).replace('\0', "/"));
    if let Ok(turn) = <[u8; 4]>::try_from(name.1) {
        text.push_str(&u32::from_be_bytes(turn).to_string());
    }
    text
}

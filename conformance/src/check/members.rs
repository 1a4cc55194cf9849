//! The members of subscriptions, and the owners of partitions, at each moment of a history.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::history::{Entry, Record};

/// A consumer, in any process.
pub(super) type Id = (u32, u32);

/// The time by which a decision of the broker may be older than its event, in microseconds.
const SLACK: u64 = 50_000;

/// The consumers of a history, as of the entry last [applied](Members::apply).
#[derive(Debug, Default)]
pub(super) struct Members {
    members: HashMap<Id, Member>,
    shared: HashSet<String>,
    changed: HashMap<Group, u64>,
}

/// The consumers of one subscription.
pub(super) type Group = (String, Vec<String>);

#[derive(Debug)]
pub(super) struct Member {
    /// `None` for a broadcast.
    pub(super) group: Option<Group>,
    pub(super) messages: usize,
    pub(super) bytes: usize,
    /// Whether partitions have owners here.
    pub(super) ordered: bool,
    pub(super) terms: BTreeMap<u32, Term>,
    pub(super) gone: bool,
}

/// A time during which a partition was owned.
#[derive(Debug, Clone, Copy)]
pub(super) struct Term {
    pub(super) epoch: u32,
    /// The time after which the broker may take it away.
    until: u64,
    over: bool,
}

impl Members {
    pub(super) fn get(&self, id: Id) -> Option<&Member> {
        self.members.get(&id)
    }

    /// The present owner of a partition, other than `id`.
    pub(super) fn other_owner(&self, id: Id, partition: u32, now: u64) -> Option<(Id, Term)> {
        let group = self.members.get(&id)?.group.as_ref()?;
        let others =
            self.members.iter().filter(|(other, member)| **other != id && member.group.as_ref() == Some(group));
        others.filter_map(|(other, member)| Some((*other, *member.terms.get(&partition)?))).find(|(other, term)| {
            let gone = self.members.get(other).is_none_or(|member| member.gone);
            !gone && term.holds(now)
        })
    }

    /// The term in which a consumer owns a partition now.
    pub(super) fn term(&self, id: Id, partition: u32) -> Option<Term> {
        let member = self.members.get(&id).filter(|member| !member.gone)?;
        member.terms.get(&partition).copied().filter(|term| !term.over)
    }

    /// Applies one entry.
    pub(super) fn apply(&mut self, entry: &Entry) {
        let id = |consumer: &u32| (entry.process, *consumer);
        match &entry.record {
            Record::Topic { topic, partitions: None } => {
                self.shared.insert(topic.clone());
            }
            Record::Joined { consumer, topics, subscription, messages, bytes } => {
                let group = subscription.clone().map(|subscription| (subscription, topics.clone()));
                let ordered = !topics.iter().any(|topic| self.shared.contains(topic));
                let member = Member {
                    group: group.clone(),
                    messages: *messages,
                    bytes: *bytes,
                    ordered,
                    terms: BTreeMap::new(),
                    gone: false,
                };
                self.members.insert(id(consumer), member);
                self.change(group, entry.at);
            }
            Record::Assigned { consumer, partition, epoch } => {
                let term = Term { epoch: *epoch, until: u64::MAX, over: false };
                if let Some(member) = self.members.get_mut(&id(consumer)) {
                    member.terms.insert(*partition, term);
                }
            }
            Record::Revoking { consumer, partition, within } => {
                let group = self.get(id(consumer)).and_then(|member| member.group.as_ref());
                let decided = group.and_then(|group| self.changed.get(group)).copied().unwrap_or(entry.at);
                let until = decided.min(entry.at).saturating_add(*within).saturating_sub(SLACK);
                self.with_term(id(consumer), *partition, |term| term.until = until);
            }
            Record::Lost { consumer, partition } | Record::Releasing { consumer, partition } => {
                self.with_term(id(consumer), *partition, |term| term.over = true);
            }
            Record::Leaving { consumer } => {
                let group = self.members.get_mut(&id(consumer)).and_then(|member| {
                    member.gone = true;
                    member.group.clone()
                });
                self.change(group, entry.at);
            }
            Record::Frozen => {
                // It goes on in its terms later, until it learns that they are over.
                let of_process = self.members.iter_mut().filter(|(id, _)| id.0 == entry.process);
                let terms = of_process.flat_map(|(_, member)| member.terms.values_mut());
                terms.for_each(|term| term.until = term.until.min(entry.at));
            }
            Record::Killed => {
                let of_process = self.members.iter_mut().filter(|(id, _)| id.0 == entry.process);
                of_process.for_each(|(_, member)| member.gone = true);
            }
            _ => {}
        }
    }

    fn change(&mut self, group: Option<Group>, at: u64) {
        if let Some(group) = group {
            self.changed.insert(group, at);
        }
    }

    fn with_term(&mut self, id: Id, partition: u32, change: impl FnOnce(&mut Term)) {
        if let Some(term) = self.members.get_mut(&id).and_then(|member| member.terms.get_mut(&partition)) {
            change(term);
        }
    }
}

impl Term {
    fn holds(&self, now: u64) -> bool {
        !self.over && now < self.until
    }
}

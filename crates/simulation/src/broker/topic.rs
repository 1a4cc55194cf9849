//! Topics and their messages.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use partitura_broker::{
    Delayed, Error, ErrorKind, Message, Ordering, Partition, Receipt, Result, Timestamp, TopicKind, Topology,
    partition_of,
};

use super::group::Group;
use crate::agenda::Deed;
use crate::world::State;

#[derive(Debug)]
pub(crate) struct Topic {
    kind: TopicKind,
    ordering: Ordering,
    pub(super) queues: Vec<Queue>,
    /// The one subscription of a queue.
    pub(super) group: Option<usize>,
}

/// One partition of a queue.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    next: u64,
    /// In the order in which they are delivered.
    pub(super) stored: BTreeMap<u64, Stored>,
    /// Not due yet.
    delayed: BTreeMap<(Timestamp, u64), Message>,
}

#[derive(Debug)]
pub(crate) struct Stored {
    pub(super) message: Message,
    visible_at: u64,
    /// With a consumer.
    pub(super) out: bool,
    pub(super) delivered: u32,
}

impl Queue {
    fn push(&mut self, message: Message, visible_at: u64) {
        self.next += 1;
        self.stored.insert(self.next, Stored { message, visible_at, out: false, delivered: 0 });
    }

    /// A message that is due joins the order of its key.
    fn promote(&mut self, wall: Timestamp, now: u64) {
        while let Some(entry) = self.delayed.first_entry().filter(|entry| entry.key().0 <= wall) {
            let message = entry.remove();
            self.push(message, now);
        }
    }

    /// The time at which the next message will be ready, in milliseconds of the world.
    pub(super) fn next_at(&self, wall: Timestamp, now: u64) -> Option<u64> {
        let visible = self.stored.values().filter(|stored| !stored.out && stored.visible_at > now);
        let due = self.delayed.keys().next().map(|(due, _)| now + due.since(wall).as_millis() as u64);
        visible.map(|stored| stored.visible_at).chain(due).min()
    }

    /// The next message to deliver. `passed_over` are keys that wait; `overtake` is a bug.
    pub(super) fn deliverable(&self, now: u64, passed_over: &mut BTreeSet<Bytes>, overtake: bool) -> Option<u64> {
        let candidates = self.stored.iter().filter(|(_, stored)| !stored.out);
        let mut visible = candidates.filter(|(_, stored)| match &stored.message.key {
            None => stored.visible_at <= now,
            Some(key) if passed_over.contains(key) => false,
            Some(_) if stored.visible_at <= now => true,
            Some(key) => {
                // Nothing of its key may overtake it.
                passed_over.insert(key.clone());
                false
            }
        });
        if overtake {
            return visible.next_back().map(|(seq, _)| *seq);
        }
        visible.next().map(|(seq, _)| *seq)
    }
}

impl State {
    pub(super) fn declare(&mut self, topology: &Topology) -> Result<()> {
        for topic in &topology.topics {
            if let Some(found) = self.topics.get(&topic.name) {
                if (found.kind, found.ordering) != (topic.kind, topic.ordering) {
                    let message = format!("it is {:?}, {:?}", found.kind, found.ordering);
                    return Err(Error::new(ErrorKind::Incompatible, "declare", message).of(&topic.name));
                }
                continue;
            }
            let mut queues = Vec::new();
            queues.resize_with(topic.ordering.partitions() as usize, Queue::default);
            let declared = Topic { kind: topic.kind, ordering: topic.ordering, queues, group: None };
            self.topics.insert(topic.name.clone(), declared);
        }
        for subscription in &topology.subscriptions {
            if self.groups.iter().any(|group| group.is(&subscription.name, &subscription.topics)) {
                continue;
            }
            let group = self.groups.len();
            let mut ordering = Ordering::Shared;
            for name in &subscription.topics {
                let missing = || Error::new(ErrorKind::NotFound, "declare", "there is no such topic").of(name);
                let topic = self.topics.get_mut(name).ok_or_else(missing)?;
                if topic.kind == TopicKind::Stream {
                    let message = "the simulated broker has no subscriptions of streams";
                    return Err(Error::new(ErrorKind::Unsupported, "declare", message).of(name));
                }
                topic.group = Some(group);
                ordering = topic.ordering;
            }
            self.groups.push(Group::new(subscription.name.clone(), subscription.topics.clone(), ordering));
        }
        Ok(())
    }

    /// Stores a message, and at random a second copy of it later.
    pub(crate) fn store(&mut self, mut message: Message, may_double: bool) -> Result<Receipt> {
        let chance = self.random.next();
        let Some(topic) = self.topics.get(&message.topic) else {
            return Err(Error::new(ErrorKind::NotFound, "publish", "there is no such topic").of(&message.topic));
        };
        if topic.kind == TopicKind::Stream {
            self.event_was_published(message);
            return Ok(Receipt { partition: Partition(0) });
        }
        self.audit.command_was_stored(&message);
        let (partitions, ordering) = (topic.queues.len() as u32, topic.ordering);
        if !self.passes_the_mutant(&mut message)? {
            return Ok(Receipt { partition: Partition(0) });
        }
        let partition = match (&message.key, ordering) {
            (Some(key), Ordering::ByKey { .. }) => partition_of(key, partitions),
            _ => Partition((chance % u64::from(partitions)) as u32),
        };
        let rate = self.plan.duplicated;
        if may_double && self.mishap(rate) {
            let after = self.random.between(0, 3_000);
            self.comes_again(message.id.as_str());
            self.later(after, Deed::Store { message: message.clone() });
        }
        let (now, wall) = (self.now(), self.wall());
        let longest = if self.chaos { self.plan.visible_after } else { 0 };
        let visible_at = now + self.random.between(0, longest);
        if let Some(topic) = self.topics.get_mut(&message.topic) {
            let group = topic.group;
            let queue = &mut topic.queues[partition.0 as usize];
            queue.promote(wall, now);
            match message.not_before {
                Some(due) if due > wall => {
                    queue.next += 1;
                    let number = queue.next;
                    queue.delayed.insert((due, number), message);
                }
                _ => queue.push(message, visible_at),
            }
            if let Some(group) = group {
                self.wake_group(group);
            }
        }
        Ok(Receipt { partition })
    }

    /// Removes a waiting message.
    pub(super) fn withdraw(&mut self, delayed: &Delayed) -> Result<bool> {
        let Delayed { topic, id, not_before, .. } = delayed;
        let missing = || Error::new(ErrorKind::NotFound, "cancel", "there is no such topic").of(topic);
        let found = self.topics.get_mut(topic).ok_or_else(missing)?;
        let mut cancelled = false;
        for queue in &mut found.queues {
            let before = queue.delayed.len();
            queue.delayed.retain(|(due, _), message| due != not_before || message.id != *id);
            cancelled |= queue.delayed.len() < before;
        }
        if cancelled {
            // A second copy that would come later goes with it.
            self.agenda.forget(|message| message.topic == *topic && message.id == *id);
        }
        Ok(cancelled)
    }

    /// Lets due messages join the order of their keys. A broker whose clock differs from ours is too early.
    pub(super) fn promote(&mut self, group: usize) {
        let early = if self.chaos { self.plan.early } else { 0 };
        let (now, wall) = (self.now(), Timestamp::from_millis(self.wall().as_millis() + early));
        for name in &self.groups[group].topics {
            if let Some(topic) = self.topics.get_mut(name) {
                topic.queues.iter_mut().for_each(|queue| queue.promote(wall, now));
            }
        }
    }

    /// The due messages of queues that have consumers. A world at rest has none.
    pub(crate) fn undone(&self) -> Option<String> {
        let worked_on = |name: &str| name.ends_with(".commands") || name.ends_with(".tasks");
        let wall = self.wall();
        self.topics.iter().filter(|(name, _)| worked_on(name.as_str())).find_map(|(name, topic)| {
            topic.queues.iter().find_map(|queue| {
                let stored = queue.stored.values().next().map(|stored| &stored.message);
                let due = queue.delayed.iter().next().filter(|((due, _), _)| *due <= wall).map(|(_, message)| message);
                stored.or(due).map(|message| format!("{name}: {}", message.id))
            })
        })
    }

    /// The messages of a queue without consumers.
    pub(crate) fn contents(&self, suffix: &str) -> Vec<&Message> {
        let named = self.topics.iter().filter(|(name, _)| name.as_str().ends_with(suffix));
        named
            .flat_map(|(_, topic)| topic.queues.iter().flat_map(|queue| queue.stored.values()))
            .map(|stored| &stored.message)
            .collect()
    }
}

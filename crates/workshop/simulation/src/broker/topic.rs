//! Topics and their messages.

use partitura_broker::{
    Delayed, Error, ErrorKind, Message, Ordering, Partition, Receipt, Result, Timestamp, TopicKind, Topology,
    partition_of,
};

use crate::agenda::Deed;
use crate::model::audit::is_start;
use crate::model::group::Group;
use crate::model::topic::{Queue, Topic};
use crate::world::State;

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

    /// The due messages of queues that have consumers, and the starts that are not due. A world at rest has none.
    pub(crate) fn undone(&self) -> Option<String> {
        let worked_on = |name: &str| name.ends_with(".commands") || name.ends_with(".tasks");
        let wall = self.wall();
        self.topics.iter().filter(|(name, _)| worked_on(name.as_str())).find_map(|(name, topic)| {
            topic.queues.iter().find_map(|queue| {
                let stored = queue.stored.values().next().map(|stored| &stored.message);
                let is_awaited = |due: Timestamp, message: &Message| due <= wall || is_start(message);
                let due = queue.delayed.iter().find(|((due, _), message)| is_awaited(*due, message));
                stored.or(due.map(|(_, message)| message)).map(|message| format!("{name}: {}", message.id))
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

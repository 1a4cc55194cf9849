use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use partitura_broker::{Error, ErrorKind, Message, Ordering, Partition, Result, Timestamp, TopicName};
use tokio::sync::Notify;

use super::broadcast::Broadcast;
use super::group::{Delayed, Group};
use super::member::{Member, Role};
use super::queue::{Place, Queue, Ready};
use crate::storage::Row;
use crate::topics::Catalog;

/// The state of the broker in memory.
#[derive(Debug)]
pub(crate) struct State {
    pub(super) catalog: Arc<Catalog>,
    /// By the number of the group in the catalog.
    pub(super) groups: Vec<Group>,
    /// By number.
    pub(super) queues: Vec<Queue>,
    pub(super) members: HashMap<u32, Member>,
    pub(super) listeners: HashMap<TopicName, Vec<u32>>,
    pub(crate) inboxes: HashMap<Arc<str>, Mailbox>,
    /// Settled sequences that must be removed from the storage.
    pub(super) settled: Vec<u64>,
    /// The time at which the batch that is being written joins its queues, if there is one. Messages that are due
    /// later must not join before it, or the order would be different after a restart.
    pub(super) writing: Option<Timestamp>,
    /// The latest due time of a message that may have been delivered: messages that are due later wait everywhere.
    pub(super) fired: Timestamp,
    /// Groups in which messages became due while a batch was being written.
    pub(super) late: Vec<u32>,
    /// The number of bytes of contents in memory, and its limit.
    pub(super) resident: usize,
    pub(super) resident_limit: usize,
    pub(super) closed: bool,
}

/// The waiting replies of an inbox.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    pub(crate) messages: VecDeque<Message>,
    pub(crate) notify: Arc<Notify>,
}

impl State {
    pub(crate) fn new(resident_limit: usize) -> Self {
        Self {
            catalog: Arc::default(),
            groups: Vec::new(),
            queues: Vec::new(),
            members: HashMap::new(),
            listeners: HashMap::new(),
            inboxes: HashMap::new(),
            settled: Vec::new(),
            writing: None,
            fired: Timestamp::default(),
            late: Vec::new(),
            resident: 0,
            resident_limit,
            closed: false,
        }
    }

    pub(crate) fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// Whether a message of this topic has a receiver.
    pub(crate) fn has_subscribers(&self, topic: &TopicName) -> bool {
        self.catalog.topics.get(topic).is_some_and(|topic| !topic.routes.is_empty())
            || self.listeners.get(topic).is_some_and(|listeners| !listeners.is_empty())
    }

    /// Replaces the catalog with a larger one.
    pub(crate) fn set_catalog(&mut self, catalog: Arc<Catalog>) {
        for entry in &catalog.groups[self.groups.len()..] {
            let number = self.groups.len() as u32;
            let partitions = entry.ordering.partitions();
            let mut first_queues = Vec::new();
            for name in &entry.topics {
                let routes = catalog.topics.get(name).map_or(&[][..], |topic| &topic.routes);
                let Some(route) = routes.iter().find(|route| route.group == number) else { continue };
                debug_assert_eq!(route.first_queue as usize, self.queues.len(), "queues are numbered as declared");
                first_queues.push(route.first_queue);
                self.queues.extend((0..partitions).map(|partition| Queue::new(name.clone(), number, partition)));
            }
            self.groups.push(Group::new(first_queues, partitions, entry.ordering == Ordering::Shared));
        }
        self.catalog = catalog;
    }

    /// Adds the messages of a file. Those that are ready may have been delivered before.
    ///
    /// # Errors
    /// [`Corrupt`](ErrorKind::Corrupt), where a message belongs to no subscription.
    pub(crate) fn restore(&mut self, rows: Vec<Row>, now: Timestamp) -> Result<()> {
        self.fired = now;
        let mut ready: HashMap<u32, Vec<Ready>> = HashMap::new();
        for row in rows {
            let Some(queue) = self.queues.get(row.queue as usize) else {
                let message = format!("message {} belongs to no subscription; restore the file from a backup", row.seq);
                return Err(Error::new(ErrorKind::Corrupt, "open", message));
            };
            let place = Place { ready_at: row.ready_at, seq: row.seq };
            if row.delayed && row.ready_at > now.as_millis() {
                let delayed = Delayed { queue: row.queue, size: row.size, mark: None, content: None };
                self.groups[queue.group as usize].delayed.insert(place, delayed);
            } else {
                let back = Ready { place, size: row.size, redelivered: true, content: None };
                ready.entry(row.queue).or_default().push(back);
            }
        }
        for (queue, back) in ready {
            self.queues[queue as usize].put_back(back);
        }
        Ok(())
    }

    pub(crate) fn has_settled(&self) -> bool {
        !self.settled.is_empty()
    }

    /// Keeps a content in memory, if there is room.
    pub(super) fn keep(&mut self, message: Message, size: u32) -> Option<Box<Message>> {
        let resident = self.resident + size as usize;
        (resident <= self.resident_limit).then(|| {
            self.resident = resident;
            Box::new(message)
        })
    }

    /// Moves messages that are due into their queues.
    pub(super) fn fire(&mut self, number: u32, now: Timestamp) {
        let horizon = self.writing.map_or(now, |writing| writing.min(now));
        self.fired = self.fired.max(horizon);
        let horizon = horizon.as_millis();
        let group = &mut self.groups[number as usize];
        let mut due = Vec::new();
        while group.next_due().is_some_and(|due| due <= horizon) {
            due.extend(group.delayed.pop_first());
        }
        if group.next_due().is_some_and(|due| due <= now.as_millis()) && !self.late.contains(&number) {
            self.late.push(number);
        }
        for (place, Delayed { queue, size, content, .. }) in due {
            self.enqueue(queue, Ready { place, size, redelivered: false, content });
        }
    }

    pub(super) fn enqueue(&mut self, queue: u32, ready: Ready) {
        self.queues[queue as usize].insert(ready);
        self.wake_reader(queue);
    }

    /// Wakes a consumer for a queue that has messages.
    pub(super) fn wake_reader(&mut self, queue: u32) {
        let Queue { group, partition, .. } = self.queues[queue as usize];
        let group = &mut self.groups[group as usize];
        if group.shared {
            group.competing.notify_one();
            // It may be of a topic with remaining credit.
            let full = group.members.iter().filter_map(|member| self.members.get(member)).filter(|member| member.full);
            return full.for_each(|member| member.notify.notify_one());
        }
        let ownership = &mut group.partitions[partition as usize];
        if ownership.hot || !ownership.is_open() {
            return;
        }
        if let Some(member) = ownership.owner.and_then(|owner| self.members.get_mut(&owner)) {
            ownership.hot = true;
            member.hot.push_back(partition);
            member.notify.notify_one();
        }
    }

    pub(super) fn wake_group(&self, number: u32) {
        for member in &self.groups[number as usize].members {
            if let Some(member) = self.members.get(member) {
                member.notify.notify_one();
            }
        }
    }

    /// Gives a message to all present listeners of its topic.
    pub(crate) fn broadcast(&mut self, partition: Partition, message: &Message, now: Timestamp) {
        let Some(listeners) = self.listeners.get(&message.topic) else { return };
        for listener in listeners {
            if let Some(Member { role: Role::Listener(_, feed), notify, .. }) = self.members.get_mut(listener) {
                feed.push(Broadcast { partition, message: message.clone() }, now);
                notify.notify_one();
            }
        }
    }

    /// Ends all deliveries, and tells all waiting consumers.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        for member in self.members.values() {
            member.notify.notify_one();
        }
        for mailbox in self.inboxes.values() {
            mailbox.notify.notify_one();
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }
}

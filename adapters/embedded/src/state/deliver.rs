use partitura_broker::{Delivery, Event, Message, Partition, Timestamp, TopicName, telemetry};
use tokio::time::Instant;

use super::broadcast::Broadcast;
use super::broker_state::State;
use super::member::{Held, Member, Role};
use super::queue::Location;

/// The number of messages of one partition before the next partition has its turn.
const TURN: usize = 64;
/// The largest number of deliveries in one event.
const BATCH: usize = 512;

/// The answer to a consumer that asks for an event.
#[derive(Debug)]
pub(crate) enum Taken {
    /// The event, and the messages whose contents have to be read before the next.
    Event(Event, Vec<Location>),
    /// First the contents of these messages have to be read.
    Load(Vec<Location>),
    /// Nothing yet.
    Wait(Wake),
    Closed,
}

/// The time to ask again, unless woken before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wake {
    /// The next delayed message, by the clock on the wall.
    pub(crate) due: Option<Timestamp>,
    /// The next hand-over that takes too long.
    pub(crate) deadline: Option<Instant>,
    /// Whether there are messages that it may not have before it has settled others. Competing consumers can have
    /// them instead.
    pub(crate) full: bool,
}

/// A content that was read from the storage.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) location: Location,
    pub(crate) message: Message,
}

impl State {
    /// The next event for a consumer.
    pub(crate) fn take(&mut self, id: u32, now: Timestamp, instant: Instant) -> Taken {
        if self.closed {
            return Taken::Closed;
        }
        let Some(member) = self.members.get_mut(&id) else { return Taken::Closed };
        let group = match &mut member.role {
            Role::Subscriber(group) => *group,
            Role::Listener(..) => {
                self.fired = self.fired.max(now);
                return member.listen(now);
            }
        };
        self.expire(group, instant);
        if let Some(news) = self.tell(id, group) {
            return Taken::Event(news, Vec::new());
        }
        self.fire(group, now);
        let mut taking = Taking::default();
        let mut full = false;
        if self.groups[group as usize].shared {
            full = matches!(self.compete(id, group, &mut taking), End::Full);
        } else {
            self.look(id, group, &mut taking);
        }
        if let Some(member) = self.members.get_mut(&id) {
            member.full = full;
        }
        if !taking.deliveries.is_empty() {
            return Taken::Event(Event::Deliveries(taking.deliveries), taking.absent);
        }
        if !taking.absent.is_empty() {
            return Taken::Load(taking.absent);
        }
        let group = &self.groups[group as usize];
        Taken::Wait(Wake { due: group.next_due().map(Timestamp::from_millis), deadline: group.next_deadline(), full })
    }

    fn tell(&mut self, id: u32, group: u32) -> Option<Event> {
        let news = self.members.get_mut(&id)?.news.pop_front()?;
        if let Event::Assigned(assignments) = &news {
            for assignment in assignments {
                self.groups[group as usize].partitions[assignment.partition.0 as usize].announced = true;
            }
        }
        Some(news)
    }

    /// Takes from the consumer's own partitions, each in its turn.
    fn look(&mut self, id: u32, group: u32, taking: &mut Taking) {
        let turns = self.members.get(&id).map_or(0, |member| member.hot.len());
        for _ in 0..turns {
            let Some(partition) = self.members.get_mut(&id).and_then(|member| member.hot.pop_front()) else { return };
            let end = self.take_from(id, group, partition, TURN, taking);
            let Some(member) = self.members.get_mut(&id) else { return };
            match end {
                End::Empty => self.groups[group as usize].partitions[partition as usize].hot = false,
                End::More => member.hot.push_back(partition),
                End::Full if taking.deliveries.len() == BATCH => return member.hot.push_front(partition),
                // Another partition may have messages of a topic with remaining credit.
                End::Full => member.hot.push_back(partition),
            }
        }
    }

    /// Takes a fair part of the messages for all.
    fn compete(&mut self, id: u32, group: u32, taking: &mut Taking) -> End {
        let this = &self.groups[group as usize];
        let ready: usize = this.first_queues.iter().map(|queue| self.queues[*queue as usize].len()).sum();
        let part = ready.div_ceil(this.members.len().max(1)).min(BATCH);
        self.take_from(id, group, 0, part, taking)
    }

    /// Takes up to `turn` messages of one partition, of all topics in the order in which they became ready.
    fn take_from(&mut self, id: u32, group: u32, partition: u32, turn: usize, taking: &mut Taking) -> End {
        let group = &self.groups[group as usize];
        let Some(member) = self.members.get_mut(&id) else { return End::Empty };
        let epoch = group.partitions[partition as usize].epoch;
        for _ in 0..turn {
            let queues = group.first_queues.iter().enumerate().map(|(topic, first)| (topic, first + partition));
            let firsts = queues.filter_map(|(topic, q)| {
                let ready = self.queues[q as usize].first()?;
                Some((ready.place, q, topic, ready.size))
            });
            let (mut next, mut full) = (None, taking.deliveries.len() == BATCH);
            for first in firsts {
                if !member.affords(first.2, first.3 as usize) {
                    full = true;
                } else if next.is_none_or(|next| first < next) {
                    next = Some(first);
                }
            }
            let Some((place, number, topic, size)) = next.filter(|_| taking.deliveries.len() < BATCH) else {
                return if full { End::Full } else { End::Empty };
            };
            let queue = &mut self.queues[number as usize];
            if queue.first().is_some_and(|first| first.content.is_none()) {
                let (messages, bytes) = member.room(topic);
                let absent = queue.absent(messages.min(BATCH), bytes);
                taking.absent.extend(absent.into_iter().map(|place| Location { queue: number, place }));
                return End::More;
            }
            let Some(ready) = queue.pop() else { return End::Empty };
            let Some(message) = ready.content else { return End::Empty };
            self.resident = self.resident.saturating_sub(size as usize);
            let held = Held { origin: Some(Location { queue: number, place }), topic, size, committing: false };
            taking.deliveries.push(member.hold(Partition(partition), epoch, held, *message, ready.redelivered));
        }
        End::More
    }

    /// Adds contents that were read to their messages.
    pub(crate) fn fill(&mut self, contents: Vec<Content>) {
        for Content { location, message } in contents {
            let size = message.size();
            if self.queues[location.queue as usize].fill(location.place, message) {
                self.resident += size;
            }
        }
    }

    /// The topic of a queue, which its stored messages do not repeat.
    pub(crate) fn topic_of(&self, queue: u32) -> TopicName {
        self.queues[queue as usize].topic.clone()
    }

    /// Whether a message still waits for its content. Another consumer may have had it meanwhile.
    pub(crate) fn is_absent(&self, location: Location) -> bool {
        self.queues[location.queue as usize].is_absent(location.place)
    }
}

impl Member {
    fn hold(&mut self, partition: Partition, epoch: u32, held: Held, message: Message, redelivered: bool) -> Delivery {
        self.take_on(&held);
        let token = self.held.insert(partition, epoch, held);
        Delivery { message, partition, redelivered, token }
    }

    fn listen(&mut self, now: Timestamp) -> Taken {
        if let Some(news) = self.news.pop_front() {
            return Taken::Event(news, Vec::new());
        }
        let mut deliveries = Vec::new();
        while deliveries.len() < BATCH
            && let Some(Broadcast { partition, message }) = self.next_broadcast(now)
        {
            let held = Held {
                origin: None,
                topic: 0,
                size: u32::try_from(message.size()).unwrap_or(u32::MAX),
                committing: false,
            };
            deliveries.push(self.hold(partition, 1, held, message, false));
        }
        if !deliveries.is_empty() {
            return Taken::Event(Event::Deliveries(deliveries), Vec::new());
        }
        let Role::Listener(topic, feed) = &mut self.role else { return Taken::Closed };
        let dropped = feed.take_dropped();
        if dropped > 0 {
            tracing::warn!(target: telemetry::TARGET, %topic, dropped, "a listener is too slow");
        }
        Taken::Wait(Wake { due: feed.next_due(), deadline: None, full: false })
    }

    fn next_broadcast(&mut self, now: Timestamp) -> Option<Broadcast> {
        let Role::Listener(_, feed) = &mut self.role else { return None };
        feed.fire(now);
        let size = feed.next_size()?;
        if !self.affords(0, size) {
            return None;
        }
        let Role::Listener(_, feed) = &mut self.role else { return None };
        feed.pop()
    }
}

#[derive(Debug, Default)]
struct Taking {
    deliveries: Vec<Delivery>,
    absent: Vec<Location>,
}

/// The reason why no more was taken of a partition.
enum End {
    Empty,
    /// Its turn is over, or the next message must be read first.
    More,
    /// The credit of the consumer is used up, at least for one topic.
    Full,
}

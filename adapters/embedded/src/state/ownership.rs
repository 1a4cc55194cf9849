use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use partitura_adapter_kit::rebalance;
use partitura_broker::{Assignment, Credit, Event, Ordering, Partition, TopicName};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::broadcast::Feed;
use super::broker_state::State;
use super::member::{Held, Member, Role};
use super::queue::{Location, Ready};

impl State {
    /// Adds a consumer to a subscription. Returns its notifiers: its own and, if it competes, the common one.
    pub(crate) fn join(
        &mut self,
        id: u32,
        group: u32,
        credit: Credit,
        revoke_within: Duration,
        now: Instant,
    ) -> (Arc<Notify>, Arc<Notify>) {
        let member = Member::new(id, Role::Subscriber(group), credit, revoke_within);
        let notify = member.notify.clone();
        self.members.insert(id, member);
        let this = &mut self.groups[group as usize];
        this.members.push(id);
        let competing = this.competing.clone();
        self.balance(group, now);
        (notify, competing)
    }

    /// Adds a consumer that listens to a stream.
    pub(crate) fn listen(&mut self, id: u32, topic: TopicName, ordering: Ordering, credit: Credit) -> Arc<Notify> {
        let mut member = Member::new(id, Role::Listener(topic.clone(), Feed::default()), credit, Duration::ZERO);
        if let Ordering::ByKey { partitions } = ordering {
            let own = |partition| Assignment { partition: Partition(partition), epoch: 1 };
            member.news.push_back(Event::Assigned((0..partitions).map(own).collect()));
        }
        let notify = member.notify.clone();
        self.members.insert(id, member);
        self.listeners.entry(topic).or_default().push(id);
        notify
    }

    /// Removes a consumer; its unsettled messages go to others.
    pub(crate) fn leave(&mut self, id: u32, now: Instant) {
        let Some(member) = self.members.get_mut(&id) else { return };
        member.gone = true;
        let group = match &member.role {
            Role::Subscriber(group) => *group,
            Role::Listener(topic, _) => {
                if let Some(listeners) = self.listeners.get_mut(topic) {
                    listeners.retain(|listener| *listener != id);
                }
                self.members.remove(&id);
                return;
            }
        };
        self.groups[group as usize].members.retain(|member| *member != id);
        let owned: Vec<u32> = (0..)
            .zip(&self.groups[group as usize].partitions)
            .filter_map(|(partition, ownership)| (ownership.owner == Some(id)).then_some(partition))
            .collect();
        self.take_back(id, |_| true);
        for partition in owned {
            self.vacate(group, partition);
        }
        self.remove_gone(id);
        self.balance(group, now);
    }

    /// Forgets a consumer that is gone, once no commit needs it any more.
    pub(super) fn remove_gone(&mut self, id: u32) {
        if self.members.get(&id).is_some_and(|member| member.gone && member.held.is_empty()) {
            self.members.remove(&id);
        }
    }

    /// Releases partitions that were asked back from their owner.
    pub(crate) fn release(&mut self, id: u32, partitions: &[Partition], now: Instant) {
        let Some(group) = self.members.get(&id).and_then(Member::group) else { return };
        for partition in partitions {
            let ownership = self.groups[group as usize].partitions.get(partition.0 as usize);
            if ownership.is_some_and(|ownership| ownership.owner == Some(id) && ownership.revoked_until.is_some()) {
                self.give_up(id, group, partition.0);
            }
        }
        self.expire(group, now);
    }

    /// Takes away partitions that were asked back and not released in time.
    pub(super) fn expire(&mut self, group: u32, now: Instant) {
        let expired: Vec<(u32, u32)> = (0..)
            .zip(&self.groups[group as usize].partitions)
            .filter(|(_, ownership)| ownership.revoked_until.is_some_and(|deadline| deadline <= now))
            .filter_map(|(partition, ownership)| Some((partition, ownership.owner?)))
            .collect();
        for (partition, owner) in expired {
            // The loss is told first: the next owner may be the same consumer, which then learns of its new ownership.
            if let Some(member) = self.members.get_mut(&owner) {
                match member.news.back_mut() {
                    Some(Event::Lost(partitions)) => partitions.push(Partition(partition)),
                    _ => member.news.push_back(Event::Lost(vec![Partition(partition)])),
                }
                member.notify.notify_one();
            }
            self.give_up(owner, group, partition);
        }
    }

    /// Decides the wanted owners, and begins the moves to them.
    fn balance(&mut self, number: u32, now: Instant) {
        let group = &self.groups[number as usize];
        if group.shared {
            // The other consumers may have missed a wake-up that was for the removed one.
            return (0..group.members.len()).for_each(|_| group.competing.notify_one());
        }
        let members: Vec<u64> = group.members.iter().map(|member| u64::from(*member)).collect();
        let current: Vec<_> = group.partitions.iter().map(|ownership| ownership.wanted_owner.map(u64::from)).collect();
        let wanted = rebalance(&current, &members);
        let mut revoked: HashMap<u32, Vec<Partition>> = HashMap::new();
        for (partition, wanted_owner) in (0_u32..).zip(wanted) {
            let wanted_owner = wanted_owner.and_then(|wanted_owner| u32::try_from(wanted_owner).ok());
            let ownership = &mut self.groups[number as usize].partitions[partition as usize];
            ownership.wanted_owner = wanted_owner;
            match ownership.owner {
                None => self.install(number, partition),
                Some(owner) if Some(owner) == wanted_owner || ownership.revoked_until.is_some() => {}
                Some(owner) if !ownership.announced => self.give_up(owner, number, partition),
                Some(owner) => revoked.entry(owner).or_default().push(Partition(partition)),
            }
        }
        for (owner, partitions) in revoked {
            self.revoke(number, owner, partitions, now);
        }
        // All consumers look again: one that waits for a hand-over must know its deadline.
        self.wake_group(number);
    }

    fn revoke(&mut self, group: u32, owner: u32, partitions: Vec<Partition>, now: Instant) {
        let Some(member) = self.members.get_mut(&owner) else { return };
        let within = member.revoke_within;
        for partition in &partitions {
            let ownership = &mut self.groups[group as usize].partitions[partition.0 as usize];
            ownership.revoked_until = Some(now + within);
            ownership.hot = false;
        }
        member.hot.retain(|partition| !partitions.contains(&Partition(*partition)));
        member.news.push_back(Event::Revoking { partitions, within });
        member.notify.notify_one();
    }

    /// Ends an ownership: unsettled messages go back, and the next owner may begin.
    fn give_up(&mut self, owner: u32, group: u32, partition: u32) {
        self.take_back(owner, |other| other == Partition(partition));
        self.vacate(group, partition);
        if let Some(member) = self.members.get_mut(&owner) {
            member.hot.retain(|hot| *hot != partition);
            for news in &mut member.news {
                match news {
                    // An assignment that was not told yet is dropped.
                    Event::Assigned(assignments) => assignments.retain(|a| a.partition != Partition(partition)),
                    Event::Revoking { partitions, .. } => partitions.retain(|p| *p != Partition(partition)),
                    _ => {}
                }
            }
            member.news.retain(|news| match news {
                Event::Assigned(assignments) => !assignments.is_empty(),
                Event::Revoking { partitions, .. } => !partitions.is_empty(),
                _ => true,
            });
        }
        self.install(group, partition);
    }

    fn vacate(&mut self, group: u32, partition: u32) {
        let ownership = &mut self.groups[group as usize].partitions[partition as usize];
        ownership.owner = None;
        ownership.revoked_until = None;
        ownership.announced = false;
        ownership.hot = false;
    }

    /// Makes the wanted owner the owner, as soon as no commit of the last owner is under way.
    pub(super) fn install(&mut self, group: u32, partition: u32) {
        let this = &mut self.groups[group as usize];
        let ownership = &mut this.partitions[partition as usize];
        if ownership.owner.is_some() || ownership.committing > 0 {
            return;
        }
        let Some((wanted_owner, member)) =
            ownership.wanted_owner.and_then(|wanted_owner| Some((wanted_owner, self.members.get_mut(&wanted_owner)?)))
        else {
            return;
        };
        if member.gone {
            return;
        }
        ownership.owner = Some(wanted_owner);
        ownership.epoch += 1;
        let assignment = Assignment { partition: Partition(partition), epoch: ownership.epoch };
        match member.news.back_mut() {
            Some(Event::Assigned(assignments)) => assignments.push(assignment),
            _ => member.news.push_back(Event::Assigned(vec![assignment])),
        }
        member.notify.notify_one();
        let queues: Vec<u32> = this.first_queues.iter().map(|first| first + partition).collect();
        for queue in queues {
            if !self.queues[queue as usize].is_empty() {
                self.wake_reader(queue);
            }
        }
    }

    /// Puts a consumer's unsettled messages of some partitions back into the queues, except those that a commit is
    /// about to settle.
    fn take_back(&mut self, id: u32, which: impl Fn(Partition) -> bool) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let back = member.held.take_unless(|partition, held| !which(partition) || held.committing);
        back.iter().for_each(|held| member.give_back(held));
        self.return_to_queues(back);
    }

    pub(super) fn return_to_queues(&mut self, back: Vec<Held>) {
        let mut queues: HashMap<u32, Vec<Ready>> = HashMap::new();
        for held in back {
            if let Some(Location { queue, place }) = held.origin {
                let ready = Ready { place, size: held.size, redelivered: true, content: None };
                queues.entry(queue).or_default().push(ready);
            }
        }
        for (queue, back) in queues {
            let count = back.len();
            self.queues[queue as usize].put_back(back);
            (0..count).for_each(|_| self.wake_reader(queue));
        }
    }
}

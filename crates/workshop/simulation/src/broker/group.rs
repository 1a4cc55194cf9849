//! Subscriptions: the owners of partitions, and the deliveries of members.

use std::collections::BTreeSet;

use partitura_broker::{AckToken, Assignment, ConsumerOptions, Delivery, Error, ErrorKind, Event, Partition, Result};

use crate::agenda::Deed;
use crate::model::member::{Member, Signals};
use crate::mutant::Mutant;
use crate::world::State;

impl State {
    pub(super) fn join(&mut self, process: usize, options: &ConsumerOptions) -> Result<(usize, Signals)> {
        let found = options
            .subscription
            .as_ref()
            .and_then(|name| self.groups.iter().position(|group| group.is(name, &options.topics)));
        let missing = || Error::new(ErrorKind::NotFound, "consume", "there is no such subscription");
        let group = found.ok_or_else(missing)?;
        let member = self.members.len();
        let signals = Signals::default();
        self.members.push(Member::new(process, group, options, signals.clone()));
        self.groups[group].members.push(member);
        self.balance(group);
        Ok((member, signals))
    }

    /// Gives each partition to its new owner, after the old one has released it.
    pub(crate) fn balance(&mut self, group: usize) {
        let there = |member: &usize| !self.members[*member].away;
        let takers: Vec<usize> = self.groups[group].members.iter().copied().filter(there).collect();
        if !self.groups[group].ordered || takers.is_empty() {
            return;
        }
        for index in 0..self.groups[group].parts.len() {
            let wanted = takers[(index + self.groups[group].offset as usize) % takers.len()];
            let part = &mut self.groups[group].parts[index];
            let partition = Partition(index as u32);
            match part.owner {
                Some(owner) if owner == wanted || part.revoking => {}
                Some(owner) => {
                    part.revoking = true;
                    let (epoch, within) = (part.epoch, self.members[owner].revoke_within);
                    self.tell(owner, Event::Revoking { partitions: vec![partition], within });
                    let after = within.as_millis() as u64;
                    self.later(after, Deed::EndRevoking { group, partition: partition.0, epoch });
                }
                None => {
                    part.owner = Some(wanted);
                    part.epoch += 1;
                    part.next_slot = 0;
                    let epoch = part.epoch;
                    self.note("broker", format_args!("{group}/{partition} goes to member {wanted}, epoch {epoch}"));
                    self.tell(wanted, Event::Assigned(vec![Assignment { partition, epoch }]));
                }
            }
        }
    }

    /// Removes the owner of a partition. Its unsettled messages come again.
    pub(super) fn free(&mut self, group: usize, index: usize) {
        let part = &mut self.groups[group].parts[index];
        part.owner = None;
        part.revoking = false;
        let outs = std::mem::take(&mut part.outs);
        for ((member, ..), place) in outs {
            self.give_back(group, index, place);
            let held = &mut self.members[member as usize].held;
            *held = held.saturating_sub(1);
        }
    }

    pub(super) fn give_back(&mut self, group: usize, index: usize, (topic, seq): (usize, u64)) {
        let forget = self.is_mutant(Mutant::NoRedelivery);
        let name = &self.groups[group].topics[topic];
        let Some(topic) = self.topics.get_mut(name) else { return };
        let stored = &mut topic.queues[index].stored;
        if forget {
            stored.remove(&seq);
        } else if let Some(stored) = stored.get_mut(&seq) {
            stored.out = false;
            let id = stored.message.id.clone();
            self.comes_again(id.as_str());
        }
    }

    pub(crate) fn end_revoking(&mut self, group: usize, partition: u32, epoch: u32) {
        let part = &self.groups[group].parts[partition as usize];
        let Some(owner) = part.owner.filter(|_| part.revoking && part.epoch == epoch) else { return };
        self.upheaval();
        self.free(group, partition as usize);
        if !self.is_mutant(Mutant::LossUntold) {
            self.tell(owner, Event::Lost(vec![Partition(partition)]));
        }
        self.balance(group);
    }

    /// The next deliveries for a member from its partitions, within its credit.
    pub(super) fn deliveries(&mut self, member: usize) -> Vec<Delivery> {
        let group = self.members[member].group;
        self.promote(group);
        let (now, most) = (self.now(), self.random.between(1, 8));
        let overtake = self.is_mutant(Mutant::KeyReordered) && self.random.chance(100);
        let mut deliveries = Vec::new();
        for index in 0..self.groups[group].parts.len() {
            let part = &self.groups[group].parts[index];
            if self.groups[group].ordered && (part.owner != Some(member) || part.revoking) {
                continue;
            }
            for topic in 0..self.groups[group].topics.len() {
                let mut passed_over = BTreeSet::new();
                while (deliveries.len() as u64) < most && self.members[member].held < self.members[member].credit {
                    let name = &self.groups[group].topics[topic];
                    let Some(found) = self.topics.get(name) else { break };
                    let queue = &found.queues[index];
                    let Some(seq) = queue.deliverable(now, &mut passed_over, overtake) else { break };
                    let key = queue.stored.get(&seq).and_then(|stored| stored.message.key.clone());
                    let rate = self.plan.passed_over;
                    match key {
                        // The key is passed over in this batch.
                        Some(key) if !deliveries.is_empty() && self.mishap(rate) => drop(passed_over.insert(key)),
                        _ => deliveries.extend(self.hand_out(member, index, (topic, seq))),
                    }
                }
            }
        }
        deliveries
    }

    fn hand_out(&mut self, member: usize, index: usize, (topic, seq): (usize, u64)) -> Option<Delivery> {
        let group = self.members[member].group;
        let part = &mut self.groups[group].parts[index];
        part.next_slot += 1;
        let (epoch, slot) = (part.epoch, part.next_slot);
        part.outs.insert((member as u32, epoch, slot), (topic, seq));
        let name = self.groups[group].topics[topic].clone();
        let stored = self.topics.get_mut(&name)?.queues[index].stored.get_mut(&seq)?;
        stored.out = true;
        stored.delivered += 1;
        let (mut message, redelivered) = (stored.message.clone(), stored.delivered > 1);
        self.members[member].held += 1;
        let id = message.id.clone();
        self.note("broker", format_args!("delivers {id} to member {member}, epoch {epoch}, slot {slot}"));
        self.was_delivered(id.as_str());
        if self.is_mutant(Mutant::DedupeOff) {
            message.id = format!("{id}-{slot}-{epoch}").into();
        }
        if self.is_mutant(Mutant::RunsConfused)
            && let Some(confused) = self.confused(&message)
        {
            message.payload = confused;
        }
        let partition = Partition(index as u32);
        let token = AckToken { consumer: member as u32, partition, epoch, slot };
        if self.is_mutant(Mutant::SettleAtDelivery) {
            self.settle_place(group, index, (member as u32, epoch, slot));
        }
        Some(Delivery { message, partition, redelivered, token })
    }

    /// The place of a token's message, if the token is valid.
    pub(super) fn place_of(&self, token: &AckToken) -> Option<(usize, usize, (u32, u32, u32))> {
        let group = self.members.get(token.consumer as usize)?.group;
        let index = token.partition.0 as usize;
        let part = self.groups[group].parts.get(index)?;
        let exact = (token.consumer, token.epoch, token.slot);
        if part.outs.contains_key(&exact) {
            return Some((group, index, exact));
        }
        if self.is_mutant(Mutant::StaleTokens) {
            // Like the slots of a slab of eight, which are used again.
            let other = part.outs.keys().find(|(.., slot)| slot % 8 == token.slot % 8)?;
            return Some((group, index, *other));
        }
        None
    }

    /// Settles one delivery: it does not come again.
    pub(super) fn settle_place(&mut self, group: usize, index: usize, out: (u32, u32, u32)) {
        let Some((topic, seq)) = self.groups[group].parts[index].outs.remove(&out) else { return };
        let held = &mut self.members[out.0 as usize].held;
        *held = held.saturating_sub(1);
        let name = &self.groups[group].topics[topic];
        if let Some(topic) = self.topics.get_mut(name) {
            topic.queues[index].stored.remove(&seq);
        }
        self.members[out.0 as usize].signals.wake();
    }

    /// The time at which a member should look again.
    pub(super) fn look_again_at(&self, member: usize) -> Option<u64> {
        let group = &self.groups[self.members[member].group];
        let early = if self.chaos { self.plan.early } else { 0 };
        let (now, wall) = (self.now(), partitura_broker::Timestamp::from_millis(self.wall().as_millis() + early));
        let topics = group.topics.iter().filter_map(|name| self.topics.get(name));
        topics.flat_map(|topic| &topic.queues).filter_map(|queue| queue.next_at(wall, now)).min()
    }

    pub(crate) fn wake_group(&mut self, group: usize) {
        for member in &self.groups[group].members {
            self.members[*member].signals.wake();
        }
    }

    pub(crate) fn wake_all(&mut self) {
        self.members.iter().for_each(|member| member.signals.wake());
    }
}

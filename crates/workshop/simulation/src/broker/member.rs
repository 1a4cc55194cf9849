//! Consumers as the broker sees them: the events for them, and their states.

use partitura_broker::{AckToken, Error, ErrorKind, Event, Partition, Result};

use crate::agenda::Deed;
use crate::model::member::Member;
use crate::mutant::Mutant;
use crate::world::State;

impl State {
    pub(super) fn tell(&mut self, member: usize, event: Event) {
        self.members[member].events.push_back(Ok(event));
        self.members[member].signals.wake();
    }

    /// The next event of a member.
    pub(super) fn next_event(&mut self, member: usize) -> Option<Result<Event>> {
        if self.members[member].deaf {
            return None;
        }
        if let Some(event) = self.members[member].events.pop_front() {
            return Some(event);
        }
        if self.members[member].away {
            return None;
        }
        let deliveries = self.deliveries(member);
        (!deliveries.is_empty()).then_some(Ok(Event::Deliveries(deliveries)))
    }

    /// Takes all partitions from a process; its consumers are told only after a while.
    pub(crate) fn cut_off(&mut self, process: usize, after: u64) {
        for member in 0..self.members.len() {
            if self.members[member].process == process && !self.members[member].away {
                self.members[member].away = true;
                self.members[member].deaf = true;
                self.upheaval();
                let lost = self.take_all(member);
                // One error reports it, also if it happened several times before the consumer looked.
                if !self.members[member].events.iter().any(Result::is_err) {
                    let error = Error::new(ErrorKind::Disconnected, "consume", "the connection was reset");
                    self.members[member].events.push_back(Err(error));
                }
                if !lost.is_empty() && !self.is_mutant(Mutant::LossUntold) {
                    self.members[member].events.push_back(Ok(Event::Lost(lost)));
                }
                self.later(after, Deed::Return { member });
            }
        }
    }

    /// Lets a consumer receive its events, and join again.
    pub(crate) fn bring_back(&mut self, member: usize) {
        if self.is_paused(self.members[member].process) {
            return self.later(10, Deed::Return { member });
        }
        self.members[member].deaf = false;
        self.upheaval();
        let group = self.members[member].group;
        if self.groups[group].members.contains(&member) {
            self.members[member].away = false;
            self.balance(group);
        }
        self.members[member].signals.wake();
    }

    /// Takes all partitions from a member, and gives them to others.
    fn take_all(&mut self, member: usize) -> Vec<Partition> {
        let group = self.members[member].group;
        let mut lost = Vec::new();
        for index in 0..self.groups[group].parts.len() {
            if self.groups[group].parts[index].owner == Some(member) {
                self.free(group, index);
                lost.push(Partition(index as u32));
            } else {
                self.take_shared(group, index, member);
            }
        }
        self.balance(group);
        self.wake_group(group);
        lost
    }

    fn take_shared(&mut self, group: usize, index: usize, member: usize) {
        let of_member = |(out, ..): &(u32, u32, u32)| *out as usize == member;
        let outs: Vec<_> = self.groups[group].parts[index].outs.keys().copied().filter(of_member).collect();
        for out in outs {
            if let Some(place) = self.groups[group].parts[index].outs.remove(&out) {
                self.give_back(group, index, place);
                self.members[member].held = self.members[member].held.saturating_sub(1);
            }
        }
    }

    /// Gives a shared delivery that is held for long to another member, as brokers with an acknowledgement time-out do.
    pub(crate) fn take_back(&mut self, group: usize) {
        if self.groups[group].ordered || !self.chaos {
            return;
        }
        let held = self.groups[group].parts[0].outs.keys().next().copied();
        if let Some(out) = held
            && let Some(place) = self.groups[group].parts[0].outs.remove(&out)
        {
            self.note("broker", format_args!("takes a delivery from member {}", out.0));
            self.give_back(group, 0, place);
            let held = &mut self.members[out.0 as usize].held;
            *held = held.saturating_sub(1);
            self.wake_group(group);
        }
    }

    /// Ends the wait of a leaving member for its last deliveries, if it has waited long enough.
    pub(super) fn cuts_short(&mut self, member: usize) {
        let Member { process, group, .. } = self.members[member];
        if !self.has_drained(process) {
            return;
        }
        let mut ids = Vec::new();
        for (index, part) in self.groups[group].parts.iter().enumerate() {
            for (_, (topic, seq)) in part.outs.iter().filter(|((out, ..), _)| *out as usize == member) {
                let topic = self.topics.get(&self.groups[group].topics[*topic]);
                ids.extend(topic.and_then(|topic| Some(topic.queues[index].stored.get(seq)?.message.id.clone())));
            }
        }
        ids.iter().for_each(|id| self.was_cut_short(id.as_str()));
    }

    /// Removes a member.
    pub(super) fn leave(&mut self, member: usize) {
        let group = self.members[member].group;
        self.groups[group].members.retain(|other| *other != member);
        self.members[member].away = true;
        self.take_all(member);
    }

    pub(crate) fn end_session(&mut self, process: usize) {
        self.inboxes.close(process);
        for member in 0..self.members.len() {
            let group = self.members[member].group;
            if self.members[member].process == process && self.groups[group].members.contains(&member) {
                self.leave(member);
            }
        }
    }

    /// Sends settlements, which takes a while.
    pub(super) fn send_settlements(&mut self, member: usize, tokens: &[AckToken]) {
        if self.members[member].pending.is_empty() {
            let longest = if self.chaos { self.plan.settle_after } else { 0 };
            let after = self.random.between(0, longest);
            self.later(after, Deed::Settle { member });
        }
        self.members[member].pending.extend(tokens);
    }

    pub(crate) fn settlements_arrive(&mut self, member: usize) {
        let process = self.members[member].process;
        if self.processes[process].dead {
            // They were still in the memory of the process.
            return self.members[member].pending.clear();
        }
        if self.is_paused(process) {
            return self.later(10, Deed::Settle { member });
        }
        self.settle_pending(member);
    }

    pub(super) fn settle_pending(&mut self, member: usize) {
        for token in std::mem::take(&mut self.members[member].pending) {
            match self.place_of(&token) {
                Some((group, index, out)) => self.settle_place(group, index, out),
                None => self.note("broker", format_args!("ignores a stale settlement of member {member}")),
            }
        }
    }
}

use partitura_broker::{AckToken, Error, ErrorKind, Result};

use super::broker_state::State;
use super::changes::Claim;

impl State {
    /// Settles deliveries of a consumer: now in memory, soon in the storage. Returns the number of stale tokens.
    pub(crate) fn settle(&mut self, id: u32, tokens: &[AckToken]) -> u64 {
        let Some(member) = self.members.get_mut(&id) else { return tokens.len() as u64 };
        let mut stale = 0;
        for token in tokens {
            match member.held.get(token).copied() {
                Some(held) if !held.committing => {
                    member.give_back(&held);
                    self.settled.extend(held.origin.map(|location| location.place.seq));
                    member.held.remove(token);
                }
                _ => stale += 1,
            }
        }
        stale
    }

    /// Reserves deliveries for a commit, all or none.
    pub(crate) fn claim(&mut self, tokens: &[AckToken], claims: &mut Vec<Claim>) -> Result<()> {
        let first = claims.len();
        for token in tokens {
            let held = self.members.get_mut(&token.consumer).and_then(|member| member.held.get_mut(token));
            match held {
                Some(held) if !held.committing => {
                    held.committing = true;
                    let seq = held.origin.map(|location| location.place.seq);
                    claims.push(Claim { token: *token, seq });
                    self.count_commits(*token, 1);
                }
                _ => {
                    let undo: Vec<_> = claims.drain(first..).collect();
                    self.unclaim(undo);
                    let message = "the delivery is settled already, or its partition went to another consumer; stop";
                    return Err(Error::new(ErrorKind::Fenced, "commit", message));
                }
            }
        }
        Ok(())
    }

    /// The commit succeeded: the deliveries are settled.
    pub(crate) fn settle_claims(&mut self, claims: Vec<Claim>) {
        for Claim { token, .. } in claims {
            self.count_commits(token, -1);
            if let Some(member) = self.members.get_mut(&token.consumer)
                && let Some(held) = member.held.remove(&token)
            {
                member.give_back(&held);
                member.notify.notify_one();
            }
            self.after_commit(token);
        }
    }

    /// The commit failed: the deliveries stay with their consumer, or go back to the queue if it has lost them.
    pub(crate) fn unclaim(&mut self, claims: Vec<Claim>) {
        for Claim { token, .. } in claims {
            self.count_commits(token, -1);
            let owns = self.owns(token);
            if let Some(member) = self.members.get_mut(&token.consumer) {
                if owns {
                    if let Some(held) = member.held.get_mut(&token) {
                        held.committing = false;
                    }
                } else if let Some(held) = member.held.remove(&token) {
                    member.give_back(&held);
                    self.return_to_queues(vec![held]);
                }
            }
            self.after_commit(token);
        }
    }

    fn owns(&self, token: AckToken) -> bool {
        let Some(member) = self.members.get(&token.consumer).filter(|member| !member.gone) else { return false };
        let Some(group) = member.group().map(|group| &self.groups[group as usize]) else { return true };
        let ownership = group.partitions.get(token.partition.0 as usize);
        group.shared || ownership.is_some_and(|t| t.owner == Some(token.consumer) && t.epoch == token.epoch)
    }

    fn count_commits(&mut self, token: AckToken, by: i32) {
        let Some(group) = self.members.get(&token.consumer).and_then(|member| member.group()) else { return };
        if let Some(ownership) = self.groups[group as usize].partitions.get_mut(token.partition.0 as usize) {
            ownership.committing = ownership.committing.saturating_add_signed(by);
        }
    }

    /// A successor may have waited for this.
    fn after_commit(&mut self, token: AckToken) {
        let Some(group) = self.members.get(&token.consumer).and_then(|member| member.group()) else { return };
        if !self.groups[group as usize].shared {
            self.install(group, token.partition.0);
        }
        self.remove_gone(token.consumer);
    }
}

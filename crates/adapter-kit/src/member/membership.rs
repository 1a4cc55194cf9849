use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::MemberId as Id;

/// The interval of a member's heartbeats.
pub(super) const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(700);
/// The time for which a member counts as present without a heartbeat.
const SILENCE_LIMIT: Duration = Duration::from_secs(3);

/// The heartbeats of members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heartbeat {
    /// The member is new, and asks the others for their heartbeats.
    Joining,
    Present,
    /// The member gave a partition up, which can be claimed now.
    Released,
    Leaving,
}

/// The version of this format. A heartbeat of another version is ignored.
const VERSION: u8 = 1;
const HEARTBEATS: [Heartbeat; 4] = [Heartbeat::Joining, Heartbeat::Present, Heartbeat::Released, Heartbeat::Leaving];

pub(super) fn encode(heartbeat: Heartbeat, id: Id) -> Bytes {
    let mut bytes = Vec::with_capacity(10);
    bytes.push(VERSION);
    bytes.push(heartbeat as u8);
    bytes.extend_from_slice(&id.to_be_bytes());
    bytes.into()
}

pub(super) fn decode(bytes: &[u8]) -> Option<(Heartbeat, Id)> {
    let [VERSION, heartbeat, id @ ..] = bytes else { return None };
    Some((*HEARTBEATS.get(usize::from(*heartbeat))?, Id::from_be_bytes(id.try_into().ok()?)))
}

/// The present members, as far as this member knows.
#[derive(Debug)]
pub(super) struct Membership {
    me: Id,
    /// The other members, and when the last heartbeat of each was received.
    others: HashMap<Id, Instant>,
}

impl Membership {
    pub(super) fn new(me: Id) -> Self {
        Self { me, others: HashMap::new() }
    }

    /// Takes a heartbeat. Returns whether it changes the membership.
    pub(super) fn receive(&mut self, heartbeat: Heartbeat, id: Id, now: Instant) -> bool {
        if id == self.me {
            return false;
        }
        match heartbeat {
            Heartbeat::Leaving => self.others.remove(&id).is_some(),
            Heartbeat::Joining | Heartbeat::Present | Heartbeat::Released => self.others.insert(id, now).is_none(),
        }
    }

    /// Forgets members that have been silent for too long. Returns whether there was one.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let before = self.others.len();
        self.others.retain(|_, last| now.duration_since(*last) < SILENCE_LIMIT);
        before != self.others.len()
    }

    /// Restarts all time limits: no heartbeat could be received until now, so silence means nothing.
    pub(super) fn restart_limits(&mut self, now: Instant) {
        self.others.values_mut().for_each(|last| *last = now);
    }

    /// All members, this one included.
    pub(super) fn members(&self) -> Vec<Id> {
        self.others.keys().copied().chain([self.me]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_is_read_as_it_was_written_and_noise_is_not() {
        for heartbeat in HEARTBEATS {
            assert_eq!(decode(&encode(heartbeat, 7)), Some((heartbeat, 7)));
        }
        for noise in [&b""[..], b"\x01", b"\x01\x09aaaaaaaa", b"\x02\x00aaaaaaaa", b"\x01\x00aaaaaaaaa"] {
            assert_eq!(decode(noise), None);
        }
    }

    #[test]
    fn silent_members_are_forgotten_unless_no_heartbeat_could_be_received() {
        let (mut membership, start) = (Membership::new(1), Instant::now());
        assert!(membership.receive(Heartbeat::Joining, 2, start));
        assert!(!membership.receive(Heartbeat::Present, 2, start + HEARTBEAT_INTERVAL), "known already");
        assert!(!membership.receive(Heartbeat::Present, 1, start), "its own");
        membership.restart_limits(start + SILENCE_LIMIT * 3);
        assert!(!membership.expire(start + SILENCE_LIMIT * 3 + HEARTBEAT_INTERVAL));
        assert!(membership.expire(start + SILENCE_LIMIT * 4));
        assert_eq!(membership.members(), [1]);
    }

    #[test]
    fn a_member_that_leaves_is_gone_at_once() {
        let mut membership = Membership::new(1);
        membership.receive(Heartbeat::Present, 2, Instant::now());
        assert!(membership.receive(Heartbeat::Leaving, 2, Instant::now()));
        assert_eq!(membership.members(), [1]);
    }
}

use partitura_broker::{MessageId, Timestamp};

use super::broker_state::State;
use super::changes::{DelayedMessage, Withdrawn};
use super::group::{Delayed, Mark};
use super::member::{Member, Role};
use super::queue::Place;
use crate::delay::Cancellation;

impl State {
    /// The places of a waiting message, and those of messages that may be it, if only the storage can tell.
    pub(crate) fn waiting(&self, cancellation: &Cancellation) -> (Vec<Place>, Vec<Place>) {
        let (mut found, mut unread) = (Vec::new(), Vec::new());
        let mark = Mark::from_id(&cancellation.id);
        for route in &cancellation.topic.routes {
            for (place, delayed) in self.groups[route.group as usize].delayed.range(at(cancellation.due)) {
                match &delayed.content {
                    _ if !cancellation.is_in(delayed.queue) => {}
                    Some(message) => found.extend((message.id == cancellation.id).then_some(*place)),
                    None => unread.extend(delayed.mark.is_none_or(|known| known == mark).then_some(*place)),
                }
            }
        }
        (found, unread)
    }

    /// Stores the result of a read, so that it need not be read again.
    pub(crate) fn recognise(&mut self, cancellation: &Cancellation, read: &[(Place, Option<MessageId>)]) {
        for route in &cancellation.topic.routes {
            let delayed = &mut self.groups[route.group as usize].delayed;
            for (place, id) in read {
                if let (Some(delayed), Some(id)) = (delayed.get_mut(place), id) {
                    delayed.mark = Some(Mark::from_id(id));
                }
            }
        }
    }

    /// Takes a message from all these places, and from the listeners of its topic. If it may have been delivered
    /// already, it takes nothing and returns `false`: then all get the message.
    pub(crate) fn withdraw(&mut self, cancellation: &Cancellation, places: &[Place], out: &mut Vec<Withdrawn>) -> bool {
        let due = Timestamp::from_millis(cancellation.due);
        if due <= self.fired {
            return false;
        }
        for route in &cancellation.topic.routes {
            for place in places {
                if let Some(delayed) = self.groups[route.group as usize].delayed.remove(place) {
                    let delayed = DelayedMessage(delayed);
                    out.push(Withdrawn::Waiting { group: route.group, place: *place, delayed });
                }
            }
        }
        for listener in self.listeners.get(&cancellation.topic.topic.name).into_iter().flatten() {
            if let Some(Member { role: Role::Listener(_, feed), .. }) = self.members.get_mut(listener) {
                let taken = feed.withdraw(due, |message| message.id == cancellation.id).into_iter();
                out.extend(taken.map(|broadcast| Withdrawn::Broadcast { listener: *listener, broadcast }));
            }
        }
        true
    }

    /// The batch is in the storage.
    pub(super) fn forget(&mut self, withdrawn: Vec<Withdrawn>) {
        for withdrawn in withdrawn {
            if let Withdrawn::Waiting { delayed: DelayedMessage(Delayed { size, content: Some(_), .. }), .. } =
                withdrawn
            {
                self.resident = self.resident.saturating_sub(size as usize);
            }
        }
    }

    /// The batch is not in the storage.
    pub(super) fn put_back(&mut self, withdrawn: Vec<Withdrawn>) {
        for withdrawn in withdrawn {
            match withdrawn {
                Withdrawn::Waiting { group, place, delayed: DelayedMessage(delayed) } => {
                    self.groups[group as usize].delayed.insert(place, delayed);
                    self.wake_group(group);
                }
                Withdrawn::Broadcast { listener, broadcast } => {
                    if let Some(Member { role: Role::Listener(_, feed), notify, .. }) = self.members.get_mut(&listener)
                    {
                        feed.push(broadcast, self.fired);
                        notify.notify_one();
                    }
                }
                Withdrawn::Appended(_) => {}
            }
        }
    }
}

/// All places of this moment.
fn at(due: u64) -> std::ops::RangeInclusive<Place> {
    Place { ready_at: due, seq: 0 }..=Place { ready_at: due, seq: u64::MAX }
}

//! Suspects: messages that were delivered before and not settled. One of them may have ended the process that had it.
//!
//! A suspect begins when [`Trials`] allow it. The first runs alone, and is put back before, with a note that says so. If
//! the process ends now, the message comes again, and its note is the evidence: it was running alone. A message that has
//! ended its process so often is a dead letter.

use std::collections::VecDeque;
use std::time::Duration;

use partitura_broker::{Delivery, MessageId};

use super::{Core, LaneId, LaneState, Now};
use crate::Trials;

/// A suspect that has run for so long is let be, and others begin beside it.
const SHORT: Duration = Duration::from_millis(250);
/// The same for one with which so many processes ended; then it may be one that takes its time to do so.
const LONG: Duration = Duration::from_secs(60);
const ALONE_TO_ITS_END: u32 = 2;
/// How long a message that was put back is waited for: another consumer may have got it.
const RETURN: Duration = Duration::from_secs(5);
/// How often is looked whether a suspect may begin: those of other lanes of the process come first.
const LOOK: Duration = Duration::from_millis(20);
/// The pause before it is tried again to put a message back.
pub(super) const PAUSE: Duration = Duration::from_secs(1);
/// How many of the messages that came to run alone are remembered.
const REMEMBERED: usize = 16;

/// Whether a message may have ended a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Suspicion {
    /// Nothing is known against it.
    #[default]
    None,
    /// It was delivered before. So often its process ended while it ran alone.
    Suspect { crashes: u32 },
    /// It was put back to run alone, and this is the first time that it comes from there.
    OnTrial { crashes: u32 },
    /// It is not run again.
    Condemned { crashes: u32 },
}

/// What stands in the header of a message that was put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Note {
    crashes: u32,
    /// It runs when it comes. If it comes again, that was its end.
    on_trial: bool,
}

#[derive(Debug)]
pub(super) struct Suspects {
    trials: Trials,
    /// Lanes that wait with a suspect as their head, and those whose head is to be alone to its end.
    first: VecDeque<LaneId>,
    accused: VecDeque<LaneId>,
    /// What was put back and is about to return, of which partition, and until when it is waited for.
    awaited: Option<(MessageId, u32, Duration)>,
    /// What runs, and when it is let be.
    running: Vec<(LaneId, Duration)>,
    /// What came to this process to run alone, and has not ended it.
    survived: VecDeque<MessageId>,
}

impl Suspicion {
    /// What is to be thought of a message that came with this note.
    pub(super) fn of(note: Option<Note>, redelivered: bool) -> Self {
        match note {
            Some(Note { crashes, on_trial: true }) if redelivered => {
                Self::Suspect { crashes: crashes.saturating_add(1) }
            }
            Some(Note { crashes, on_trial: true }) => Self::OnTrial { crashes },
            Some(Note { crashes, on_trial: false }) => Self::Suspect { crashes },
            None if redelivered => Self::Suspect { crashes: 0 },
            None => Self::None,
        }
    }

    /// What to write down of it.
    pub(super) fn note(self, on_trial: bool) -> Option<Note> {
        match self {
            Self::None => None,
            Self::Suspect { crashes } | Self::OnTrial { crashes } => Some(Note { crashes, on_trial }),
            Self::Condemned { crashes } => Some(Note { crashes: crashes.saturating_sub(1), on_trial }),
        }
    }

    pub(super) fn crashes(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Suspect { crashes } | Self::OnTrial { crashes } | Self::Condemned { crashes } => crashes,
        }
    }
}

impl Note {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (crashes, on_trial) = text.strip_suffix(" alone").map_or((text, false), |crashes| (crashes, true));
        Some(Self { crashes: crashes.parse().ok()?, on_trial })
    }
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.crashes, if self.on_trial { " alone" } else { "" })
    }
}

impl Suspects {
    pub(super) fn new(trials: Trials) -> Self {
        Self {
            trials,
            first: VecDeque::new(),
            accused: VecDeque::new(),
            awaited: None,
            running: Vec::new(),
            survived: VecDeque::new(),
        }
    }
}

impl Drop for Suspects {
    fn drop(&mut self) {
        let begun = self.running.len() + usize::from(self.awaited.is_some());
        (0..begun).for_each(|_| self.trials.end(false));
    }
}

impl Core {
    /// What is to be thought of a message that came.
    pub(super) fn suspicion(&mut self, of: &Delivery, note: Option<Note>, redelivered: bool) -> Suspicion {
        if self.settings.crashes == 0 || (note.is_none() && !redelivered) {
            return Suspicion::None;
        }
        // It came to this process, which has not ended: it was lost in another way.
        let survived = self.suspects.survived.contains(&of.message.id);
        let note = note.map(|note| Note { on_trial: note.on_trial && !(redelivered && survived), ..note });
        let suspicion = Suspicion::of(note, redelivered);
        if matches!(suspicion, Suspicion::OnTrial { .. }) {
            self.suspects.survived.truncate(REMEMBERED - 1);
            self.suspects.survived.push_front(of.message.id.clone());
        }
        if matches!(suspicion, Suspicion::Suspect { .. }) && self.is_first_suspect(of.partition.0) {
            self.suspects.trials.came();
        }
        suspicion
    }

    /// Has a queued lane wait whose head is a suspect. Whether the head is given up instead.
    pub(super) fn suspect(&mut self, id: LaneId, suspicion: Suspicion) -> bool {
        let Suspects { first, accused, awaited, .. } = &mut self.suspects;
        match suspicion {
            Suspicion::Suspect { crashes } if crashes.saturating_add(1) >= self.settings.crashes.max(2) => {
                let lane = &mut self.lanes[id.index()];
                lane.take(1);
                if let Some(current) = &mut lane.current {
                    current.suspicion = Suspicion::Condemned { crashes: crashes + 1 };
                }
                return true;
            }
            Suspicion::Suspect { crashes } if crashes < ALONE_TO_ITS_END => first.push_back(id),
            Suspicion::OnTrial { .. } if awaited.is_some() => accused.push_front(id),
            _ => accused.push_back(id),
        }
        false
    }

    /// The next suspect that may begin now, and whether it runs alone.
    pub(super) fn suspect_to_run(&mut self, now: Now) -> Option<(LaneId, bool)> {
        self.forget_who_does_not_wait();
        if let Some((id, ..)) = &self.suspects.awaited {
            let returned = *self.suspects.accused.front()?;
            if self.lanes[returned.index()].front().is_none_or(|front| front.delivery.message.id != *id) {
                return None;
            }
            self.suspects.awaited = None;
            self.suspects.accused.pop_front();
            return Some((self.let_run(returned, now), true));
        }
        let (id, accused) = match self.suspects.first.front() {
            Some(id) => (*id, false),
            None => (*self.suspects.accused.front()?, true),
        };
        let alone = self.suspects.trials.begin(accused)?;
        let waiting = if accused { &mut self.suspects.accused } else { &mut self.suspects.first };
        waiting.pop_front();
        let head = self.lanes[id.index()].front().map(|front| front.suspicion);
        let noted = matches!(head, Some(Suspicion::OnTrial { .. }));
        if alone && !noted && self.can_put_back() {
            self.put_back_for_trial(id, now);
            return None;
        }
        Some((self.let_run(id, now), alone))
    }

    fn let_run(&mut self, id: LaneId, now: Now) -> LaneId {
        let crashes = self.lanes[id.index()].front().map_or(0, |front| front.suspicion.crashes());
        let limit = if crashes < ALONE_TO_ITS_END { SHORT } else { LONG };
        self.suspects.running.push((id, now.steady + limit));
        id
    }

    /// Removes lanes from the front of those that wait which do not any more.
    fn forget_who_does_not_wait(&mut self) {
        for accused in [false, true] {
            loop {
                let waiting = if accused { &mut self.suspects.accused } else { &mut self.suspects.first };
                let Some(id) = waiting.front().copied() else { break };
                match self.head(id) {
                    Some(Suspicion::None) => self.ready.push_back(id),
                    Some(_) => break,
                    None => {}
                }
                let waiting = if accused { &mut self.suspects.accused } else { &mut self.suspects.first };
                waiting.pop_front();
            }
        }
    }

    /// The head of a queued lane that can run. A lane that is queued in vain is no longer.
    pub(super) fn head(&mut self, id: LaneId) -> Option<Suspicion> {
        let lane = self.find(id).filter(|lane| lane.state == LaneState::Queued)?;
        let partition = lane.partition;
        let open = self.is_open(partition);
        let lane = &mut self.lanes[id.index()];
        let head = lane.front().filter(|_| open && lane.moving == 0).map(|front| front.suspicion);
        if head.is_none() {
            lane.state = LaneState::Idle;
        }
        head
    }

    fn can_put_back(&self) -> bool {
        self.settings.parking.is_some() || self.settings.put_back
    }

    /// Puts the head of a lane back, with the note that it runs alone when it comes.
    fn put_back_for_trial(&mut self, id: LaneId, now: Now) {
        let index = id.index();
        let fresh = self.fresh_place(self.lanes[index].partition, now);
        let lane = &mut self.lanes[index];
        lane.state = LaneState::Idle;
        lane.take(1);
        let Some(current) = &mut lane.current else { return self.suspects.trials.end(false) };
        current.suspicion = Suspicion::OnTrial { crashes: current.suspicion.crashes() };
        let (message, token) = (current.delivery.message.id.clone(), current.delivery.token);
        let place = current.place.unwrap_or(fresh);
        self.suspects.awaited = Some((message, lane.partition, now.steady + RETURN));
        lane.put_back(fresh);
        self.given(place);
        self.move_hand(id.index, |entry| entry.delivery.token == token, now);
    }

    /// A message could not be put back.
    pub(super) fn not_put_back(&mut self, id: &MessageId) {
        if self.suspects.awaited.take_if(|(awaited, ..)| awaited == id).is_some() {
            self.suspects.trials.end(false);
        }
    }

    /// A lane has run, and the process is there still.
    pub(super) fn acquit(&mut self, id: LaneId) {
        let Suspects { running, trials, .. } = &mut self.suspects;
        if let Some(at) = running.iter().position(|(lane, _)| *lane == id) {
            running.swap_remove(at);
            trials.end(true);
        }
        let current = self.find(id).and_then(|lane| lane.current.as_mut());
        if let Some(current) = current.filter(|current| !matches!(current.suspicion, Suspicion::Condemned { .. })) {
            current.suspicion = Suspicion::None;
        }
    }

    /// Lets be what has run for long enough.
    pub(super) fn tick_suspects(&mut self, now: Now) {
        let Suspects { running, trials, awaited, .. } = &mut self.suspects;
        running.retain(|(_, until)| {
            let over = *until <= now.steady;
            if over {
                trials.end(true);
            }
            !over
        });
        if awaited.take_if(|(.., until)| *until <= now.steady).is_some() {
            trials.end(false);
        }
    }

    /// What was put back comes to another owner, if at all.
    pub(super) fn awaits_nothing_of(&mut self, partition: u32) {
        if self.suspects.awaited.take_if(|(_, of, _)| *of == partition).is_some() {
            self.suspects.trials.end(false);
        }
    }

    pub(super) fn next_suspect(&self, now: Now) -> Option<Duration> {
        let Suspects { running, awaited, first, accused, .. } = &self.suspects;
        let until = awaited.iter().map(|(.., until)| *until).chain(running.iter().map(|(_, until)| *until)).min();
        let waits = awaited.is_none() && !self.draining && !(first.is_empty() && accused.is_empty());
        let until = until.map(|until| until.saturating_sub(now.steady));
        until.into_iter().chain(waits.then_some(LOOK)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_survives_the_header() {
        for note in [Note { crashes: 0, on_trial: true }, Note { crashes: 7, on_trial: false }] {
            assert_eq!(Note::parse(&note.to_string()), Some(note));
        }
        for broken in ["", "alone", "x alone", "1 2"] {
            assert_eq!(Note::parse(broken), None, "{broken}");
        }
    }
}

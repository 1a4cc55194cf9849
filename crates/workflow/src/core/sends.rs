//! Messages that the code sends and does not wait for: each goes out, or is refused since it is too large.

use super::{Core, State};
use crate::{Event, EventKind, TooLarge};

impl State {
    /// Begins to replay a history. The decisions of the code are looked up ahead of their place in it.
    pub(crate) fn begin_replay(&mut self, history: &[Event]) {
        self.replaying = true;
        for Event { kind, .. } in history {
            match kind {
                EventKind::VersionMarked { change, version, .. } => self.record_version(change, *version),
                EventKind::SendRefused { seq, bytes, limit, .. } => {
                    self.sends.refused.insert(*seq, TooLarge { bytes: *bytes, limit: *limit });
                }
                _ => {}
            }
            if let Some(seq) = kind.seq().filter(|_| kind.is_command()) {
                self.sends.known_until = self.sends.known_until.max(seq);
            }
        }
    }
}

impl Core {
    /// Issues a command that sends something, and says whether it goes out. A refusal is recorded: a replay has to give
    /// the same answer, whatever the broker takes then.
    pub(crate) fn send(&self, command: impl FnOnce(u32) -> EventKind) -> Result<(), TooLarge> {
        let (seq, known) = {
            let mut state = self.enter();
            let seq = state.claim_done();
            (seq, state.sends.known(seq))
        };
        let command = command(seq);
        // Without the lock: an application's own codec says how large a payload is.
        let fits = known.unwrap_or_else(|| self.fit_check.as_ref().map_or(Ok(()), |fits| fits(&command)));
        let command = match fits {
            Ok(()) => command,
            Err(too_large) => refused(command, too_large),
        };
        self.lock().issue(command);
        fits
    }
}

fn refused(command: EventKind, TooLarge { bytes, limit }: TooLarge) -> EventKind {
    match command {
        EventKind::SignalSent { seq, workflow, id, .. } | EventKind::ChildStarted { seq, workflow, id, .. } => {
            EventKind::SendRefused { seq, workflow, id, bytes, limit }
        }
        other => other,
    }
}

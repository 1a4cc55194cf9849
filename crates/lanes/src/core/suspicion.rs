use crate::Trials;

/// How far a message is suspected to end the process that runs it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Suspicion {
    /// How often the message was begun, as far as known, in a process that was lost before the message was done.
    pub(super) crashes: u32,
    /// The broker's copy has the note that the message begins now. If it is redelivered, that is one more crash.
    pub(super) noted: bool,
}

impl Suspicion {
    /// The suspicion of a message that is delivered with this note. `redelivered` is the broker's flag.
    pub(super) fn new(note: Option<Note>, redelivered: bool) -> Self {
        match note {
            Some(Note { crashes, begins: true }) if redelivered => {
                Self { crashes: crashes.saturating_add(1), noted: false }
            }
            Some(Note { crashes, begins }) => Self { crashes, noted: begins },
            None => Self { crashes: u32::from(redelivered), noted: false },
        }
    }

    pub(super) fn is_none(self) -> bool {
        self.crashes == 0
    }

    pub(super) fn is_accused(self) -> bool {
        Trials::is_accused(self.crashes)
    }

    /// The note for a copy of the message; `None` if there is nothing to note.
    pub(super) fn note(self) -> Option<Note> {
        (!self.is_none()).then_some(Note { crashes: self.crashes, begins: self.noted })
    }
}

/// The value of [`SUSPECT`](crate::headers::SUSPECT).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Note {
    crashes: u32,
    /// The message runs when this copy comes.
    begins: bool,
}

const BEGINS: &str = " begins";

impl Note {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (crashes, begins) = text.strip_suffix(BEGINS).map_or((text, false), |crashes| (crashes, true));
        Some(Self { crashes: crashes.parse().ok()?, begins })
    }
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.crashes, if self.begins { BEGINS } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(crashes: u32, begins: bool) -> Option<Note> {
        Some(Note { crashes, begins })
    }

    #[test]
    fn a_note_survives_the_header() {
        for note in [Note { crashes: 1, begins: true }, Note { crashes: 7, begins: false }] {
            assert_eq!(Note::parse(&note.to_string()), Some(note));
        }
        for broken in ["", "begins", " begins", "x begins", "1 2", "-1"] {
            assert_eq!(Note::parse(broken), None, "{broken}");
        }
    }

    #[test]
    fn only_a_redelivered_copy_that_was_to_begin_counts_as_one_crash_more() {
        let crashes = |note, redelivered| Suspicion::new(note, redelivered).crashes;
        assert_eq!((crashes(None, false), crashes(None, true)), (0, 1));
        assert_eq!((crashes(note(2, false), false), crashes(note(2, false), true)), (2, 2));
        assert_eq!((crashes(note(2, true), false), crashes(note(2, true), true)), (2, 3));
    }

    #[test]
    fn a_copy_that_is_to_begin_is_noted_until_it_is_redelivered() {
        assert!(Suspicion::new(note(1, true), false).noted);
        assert!(!Suspicion::new(note(1, true), true).noted);
        assert!(!Suspicion::new(note(1, false), false).noted);
    }
}

use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

/// Decides who may run a *suspect* now: a message that was delivered before and not settled, and so may have ended the
/// process that had it.
///
/// All lanes of a process share one, so that suspects run one by one in it: if the process ends then, it is known which
/// message was to blame. When it has survived some, each further one lets one more run beside the others, as in the slow
/// start of TCP: after a crash that no message caused, everything runs again soon.
#[derive(Debug, Clone, Default)]
pub struct Trials(Arc<Mutex<State>>);

/// So many run one by one before more may run at a time.
const ONE_BY_ONE: usize = 16;

#[derive(Debug, Default)]
struct State {
    /// Suspects that run.
    running: usize,
    /// Suspects that this process survived, since it met the first.
    survived: usize,
    /// The one that runs has to be alone to its end.
    alone: bool,
}

impl Trials {
    /// Those of this process.
    pub fn of_this_process() -> Self {
        static HERE: LazyLock<Trials> = LazyLock::new(Trials::default);
        HERE.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A suspect came. Where none runs, a crash may be the reason: the next one is alone.
    pub(crate) fn came(&self) {
        let mut state = self.state();
        if state.running == 0 {
            state.survived = 0;
        }
    }

    /// Whether a suspect may begin, and if so whether it is the only one. With `alone` no other may begin before it ends.
    pub(crate) fn begin(&self, alone: bool) -> Option<bool> {
        let mut state = self.state();
        let beside = state.survived.saturating_sub(ONE_BY_ONE - 1);
        let room = state.running == 0 || !alone && !state.alone && state.running <= beside;
        if !room {
            return None;
        }
        state.running += 1;
        state.alone = alone;
        Some(alone || beside == 0)
    }

    /// A suspect that began does not count any more.
    pub(crate) fn end(&self, survived: bool) {
        let mut state = self.state();
        state.running = state.running.saturating_sub(1);
        state.survived += usize::from(survived);
        state.alone = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(survived: usize) -> Trials {
        let trials = Trials::default();
        for _ in 0..survived {
            assert_eq!(trials.begin(false), Some(true));
            assert_eq!((trials.begin(false), trials.begin(true)), (None, None));
            trials.end(true);
        }
        trials
    }

    #[test]
    fn the_first_are_alone_and_each_further_one_makes_room_for_one_more() {
        let trials = after(ONE_BY_ONE);
        assert_eq!((trials.begin(false), trials.begin(false), trials.begin(false)), (Some(false), Some(false), None));
        trials.end(true);
        trials.end(true);
        assert_eq!((0..5).filter_map(|_| trials.begin(false)).count(), 4);
    }

    #[test]
    fn who_has_to_be_alone_waits_for_the_others_and_they_for_it() {
        let trials = after(ONE_BY_ONE);
        assert_eq!((trials.begin(false), trials.begin(true)), (Some(false), None));
        trials.end(true);
        assert_eq!((trials.begin(true), trials.begin(false)), (Some(true), None));
        trials.end(true);
        assert_eq!(trials.begin(false), Some(false));
    }

    #[test]
    fn after_a_pause_the_first_is_alone_again() {
        let trials = after(ONE_BY_ONE);
        trials.came();
        assert_eq!((trials.begin(false), trials.begin(false)), (Some(true), None));
        trials.end(true);
        let trials = after(ONE_BY_ONE);
        trials.begin(false);
        trials.came();
        assert_eq!(trials.begin(false), Some(false));
    }
}

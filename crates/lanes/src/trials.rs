use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

/// Permission to run an *accused* message: one that was running each time when the process ended at least twice.
///
/// All lanes of a process share one. Only one accused message is on trial at a time, so that the next crash counts
/// against that one alone.
#[derive(Debug, Clone, Default)]
pub struct Trials(Arc<AtomicBool>);

impl Trials {
    /// The permission that all lanes of this process share, unless their options name another.
    pub fn of_this_process() -> Self {
        static SHARED: LazyLock<Trials> = LazyLock::new(Trials::default);
        SHARED.clone()
    }

    /// Begins a trial, unless one goes on. Each trial that begins has to be [ended](Self::end).
    pub fn begin(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }

    /// Ends the trial that goes on.
    pub fn end(&self) {
        self.0.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_trial_goes_on_at_a_time() {
        let trials = Trials::default();
        assert!(trials.begin() && !trials.clone().begin());
        trials.end();
        assert!(trials.begin());
    }
}

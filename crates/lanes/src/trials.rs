use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// The number of crashes from which on a message is accused.
const ACCUSED: u32 = 2;
/// How long the trial of a message lasts that has two crashes.
const TRIAL: Duration = Duration::from_secs(1);
/// The same, for each further crash that many times longer.
const LONGER: u32 = 4;

/// Permission to run an *accused* message: one that was running each time when the process ended at least twice.
///
/// All lanes of a process share one. Only one accused message is on trial at a time, so that the next crash counts
/// against that one alone.
#[derive(Debug, Clone, Default)]
pub struct Trials(Arc<AtomicBool>);

impl Trials {
    /// The pause between two looks whether the trial of another has ended.
    pub const LOOK: Duration = Duration::from_millis(20);

    /// The number of crashes with which a message is given up, as it counts: 0 for never, else 2 at least, since a
    /// redelivery alone proves no crash.
    pub fn limit(set: u32) -> u32 {
        if set == 0 { 0 } else { set.max(ACCUSED) }
    }

    /// Whether a message with this many crashes is accused, and runs only on trial.
    pub fn is_accused(crashes: u32) -> bool {
        crashes >= ACCUSED
    }

    /// How long a message with this many crashes is on trial. It may run on after that, but the next one begins beside
    /// it.
    pub fn lasts(crashes: u32) -> Duration {
        TRIAL.saturating_mul(LONGER.saturating_pow(crashes.saturating_sub(ACCUSED)))
    }

    /// Why a message with this many crashes is given up.
    pub fn reason(crashes: u32) -> String {
        format!("its worker or process was lost {crashes} times while it ran")
    }

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
    fn each_crash_makes_the_trial_longer() {
        assert_eq!([2, 3, 4].map(|crashes| Trials::lasts(crashes).as_secs()), [1, 4, 16]);
        assert_eq!(Trials::lasts(u32::MAX), TRIAL.saturating_mul(u32::MAX));
    }

    #[test]
    fn one_redelivery_proves_nothing() {
        assert_eq!([0, 1, 2, 5].map(Trials::limit), [0, 2, 2, 5]);
        assert!(!Trials::is_accused(1) && Trials::is_accused(2));
    }

    #[test]
    fn one_trial_goes_on_at_a_time() {
        let trials = Trials::default();
        assert!(trials.begin() && !trials.clone().begin());
        trials.end();
        assert!(trials.begin());
    }
}

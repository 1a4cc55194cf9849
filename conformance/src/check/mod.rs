//! Checks of histories. Each check is a pure function, with tests of its own.
//!
//! The checks of [`CONTRACT`] hold for every history, with faults as well, and run after every case. The others run
//! only in the cases to which they apply.

mod cancel;
mod delay;
mod delivery;
mod flow;
mod handlers;
mod members;
mod order;
mod ownership;
mod repeats;
#[cfg(test)]
mod testing;
mod violation;

pub use cancel::cancelled_stays_away;
pub use delay::{Lateness, delivery_times, due_order, lateness, never_early};
pub use delivery::{as_published, each_once, each_once_of, flagged, nothing_lost, settled_stays_settled};
pub use flow::within_credit;
pub use handlers::{attempts_count, one_at_a_time, runs_in_order};
pub use order::in_order;
pub use ownership::{one_owner, within_term};
pub use repeats::repeats_order;
pub use violation::Violation;

use crate::history::History;

/// A named check.
pub type Check = fn(&History) -> Result<(), Violation>;

/// The checks that hold for every history.
pub const CONTRACT: &[Check] = &[
    as_published,
    flagged,
    settled_stays_settled,
    in_order,
    one_owner,
    within_term,
    within_credit,
    never_early,
    cancelled_stays_away,
    one_at_a_time,
];

/// Runs the checks of [`CONTRACT`].
///
/// # Errors
/// The first violation.
pub fn contract(history: &History) -> Result<(), Violation> {
    CONTRACT.iter().try_for_each(|check| check(history))
}

//! The next times of a schedule, as a step computes and the history records them.

use std::time::Duration;

use partitura_workflow::jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::calendar::Calendar;
use super::specification::ScheduleSpecification;
use crate::wire::names::mix;

/// How many times in the future a plan has.
const AHEAD: usize = 10;
/// How many times it has in all, those that are due already included.
const TIMES: usize = 100;
/// How many missed times are counted one by one.
const MISSED: u64 = 10_000;

/// The next times.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) times: Vec<Planned>,
    /// How many were missed: their time is over.
    pub(super) missed: u64,
    /// There are no others.
    pub(super) is_last: bool,
}

/// A time at which an instance is to be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Planned {
    /// As the calendar has it.
    pub(super) nominal: Timestamp,
    /// With jitter.
    pub(super) due: Timestamp,
}

/// Computes the times of a schedule after a moment.
///
/// # Errors
/// The problem with the specification, on this machine.
pub(super) fn plan(
    (id, specification): (&str, &ScheduleSpecification),
    after: Timestamp,
    now: Timestamp,
) -> Result<Plan, String> {
    let calendar = Calendar::new(&specification.times, &specification.time_zone)?;
    let mut plan = Plan::default();
    let (mut next, mut ahead) = (calendar.next(after), 0);
    while let Some(nominal) = next {
        if ahead == AHEAD || plan.times.len() == TIMES {
            return Ok(plan);
        }
        next = calendar.next(nominal);
        let due = later(nominal, jitter(id, nominal, next, specification.jitter));
        if later(due, specification.catch_up) >= now {
            ahead += usize::from(due > now);
            plan.times.push(Planned { nominal, due });
            continue;
        }
        plan.missed += 1;
        if plan.missed >= MISSED {
            // A time at the horizon is not missed, nor is one whose start is after it, for its jitter.
            let reach =
                specification.catch_up.saturating_add(specification.jitter).saturating_add(Duration::from_nanos(1));
            let horizon = now.checked_sub(reach).unwrap_or(Timestamp::MIN);
            next = calendar.next(horizon.max(nominal));
        }
    }
    plan.is_last = true;
    Ok(plan)
}

/// The times of a span, both ends included, up to a number.
///
/// # Errors
/// The problem with the specification, on this machine.
pub(super) fn span(
    specification: &ScheduleSpecification,
    (from, to): (Timestamp, Timestamp),
    most: usize,
) -> Result<Vec<Timestamp>, String> {
    let calendar = Calendar::new(&specification.times, &specification.time_zone)?;
    let before = from.checked_sub(Duration::from_nanos(1)).unwrap_or(Timestamp::MIN);
    let times = std::iter::successors(calendar.next(before), |time| calendar.next(*time));
    Ok(times.take_while(|time| *time <= to).take(most).collect())
}

/// A moment some time after another.
pub(super) fn later(moment: Timestamp, duration: Duration) -> Timestamp {
    moment.checked_add(duration).unwrap_or(Timestamp::MAX)
}

/// How much later than its time a start is: always the same for one time of one schedule, and earlier than the next
/// time.
fn jitter(id: &str, nominal: Timestamp, next: Option<Timestamp>, most: Duration) -> Duration {
    let gap = next.and_then(|next| Duration::try_from(next.duration_since(nominal)).ok()).unwrap_or(Duration::MAX);
    let most = u64::try_from(most.min(gap.saturating_sub(Duration::from_millis(1))).as_millis()).unwrap_or(u64::MAX);
    if most == 0 {
        return Duration::ZERO;
    }
    let of_id = id.bytes().fold(0, |hash, byte| mix(hash ^ u64::from(byte)));
    let draw = mix(of_id ^ nominal.as_millisecond().unsigned_abs());
    Duration::from_millis(draw % most.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use partitura_workflow::Payload;

    use super::super::specification::{Overlap, Recurrence};
    use super::*;

    fn specification(cron: &str) -> ScheduleSpecification {
        ScheduleSpecification {
            workflow: "W".into(),
            input: Payload::null(),
            tags: Vec::new(),
            times: vec![Recurrence::Cron(cron.into())],
            time_zone: "UTC".into(),
            overlap: Overlap::Skip,
            jitter: Duration::ZERO,
            catch_up: Duration::from_secs(3_600),
            at_most: None,
        }
    }

    fn time(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn a_plan_has_what_is_due_and_what_is_next_and_counts_what_was_missed() {
        let (after, now) = (time("2026-01-01T00:00:00Z"), time("2026-01-01T05:30:00Z"));
        let found = plan(("s", &specification("0 * * * *")), after, now).expect("a plan");
        assert_eq!(found.missed, 4);
        assert_eq!(found.times.first().map(|planned| planned.nominal), Some(time("2026-01-01T05:00:00Z")));
        assert_eq!(found.times.len(), 1 + AHEAD);
        // A million minutes are not counted one by one.
        let long_ago = plan(("s", &specification("* * * * *")), time("2024-01-01T00:00:00Z"), now).expect("a plan");
        assert_eq!((long_ago.missed, long_ago.times.len()), (MISSED, 60 + 1 + AHEAD));
    }

    #[test]
    fn jitter_stays_in_its_bounds_is_the_same_each_time_and_spreads() {
        let jittered = ScheduleSpecification { jitter: Duration::from_secs(300), ..specification("*/2 * * * *") };
        let after = time("2026-01-01T00:00:00Z");
        let found = plan(("s", &jittered), after, after).expect("a plan");
        assert_eq!(plan(("s", &jittered), after, after).expect("a plan"), found);
        let waits = |plan: Plan| plan.times.into_iter().map(|planned| planned.due.duration_since(planned.nominal));
        // Also within the time to the next.
        assert!(waits(found.clone()).all(|wait| (0..120_000).contains(&wait.as_millis())), "{found:?}");
        assert!(waits(found.clone()).any(|wait| wait.as_millis() > 60_000), "{found:?}");
        assert_ne!(plan(("t", &jittered), after, after).expect("a plan"), found);
    }

    #[test]
    fn a_span_includes_its_ends() {
        let span = |from, to, most| span(&specification("0 0 * * *"), (time(from), time(to)), most).expect("times");
        assert_eq!(span("2026-01-01T00:00:00Z", "2026-01-03T00:00:00Z", 9).len(), 3);
        assert_eq!(span("2026-01-01T00:00:00Z", "2027-01-03T00:00:00Z", 9).len(), 9);
    }
}
